"""A COCO data set of small parts, drawn in a style and named in words that pre-training never used."""

import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from paligemma2.data.synthetic.render import draw_scene
from paligemma2.data.synthetic.scenes import OTHER_THEME, Scene, random_contents, random_scene

NAMES = {"circle": "washer", "square": "plate", "cross": "clamp", "star": "gear"}
SIZE = 160


def write_coco_parts(folder: Path, *, train: int, valid: int, seed: int = 0) -> Path:
    """Write `train/`, `val/` and `annotations/instances_*.json` with boxes and polygons."""
    rng = random.Random(seed)
    for split, count in (("train", train), ("val", valid)):
        (folder / split).mkdir(parents=True)
        data: dict[str, list[dict[str, object]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 7 + i, "name": name} for i, name in enumerate(NAMES.values())],
        }
        for number in range(count):
            scene = _scene(rng)
            name = f"{number:05d}.png"
            Image.fromarray(draw_scene(scene, SIZE)).save(folder / split / name)
            data["images"].append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
            data["annotations"] += _annotations(scene, number, len(data["annotations"]))
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def _scene(rng: random.Random) -> Scene:
    while True:
        contents = random_contents(rng, rng.randint(1, 2))
        if all(content.shape in NAMES for content in contents):
            return random_scene(rng, contents, OTHER_THEME)


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, object]]:
    ids = list(NAMES)
    rows: list[dict[str, object]] = []
    for item in scene.left_to_right:
        y_min, x_min, y_max, x_max = item.box.pixels(SIZE, SIZE)
        rows.append(
            {
                "id": first_id + len(rows) + 1,
                "image_id": image_id,
                "category_id": 7 + ids.index(item.shape),
                "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                "area": (x_max - x_min) * (y_max - y_min),
                "iscrowd": 0,
                "segmentation": [np.round(item.outline * SIZE, 2).ravel().tolist()],
            }
        )
    return rows
