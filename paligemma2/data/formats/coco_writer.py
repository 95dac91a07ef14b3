"""Rows to COCO's JSON: `annotations/instances_<split>.json`, `captions_<split>.json` and `images/<split>`.

Lists grow in files of their own and are put together at the end, so that memory holds no annotation.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from paligemma2.data.formats.outlines import polygon_area, rle_area
from paligemma2.data.pictures import PictureFolder, only_picture, row_size
from paligemma2.data.rows import CAPTION_WORDS, Annotation, DataRow, OnProblem, UnusableRow
from paligemma2.data.text_files import TextFiles

_PARTS = ("images", "annotations")


class Writer:
    """Writes objects as instances and captions as captions; rows of one picture share its entry."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder, self._pictures, self._parts = folder, PictureFolder(), TextFiles()
        self._categories: dict[str, int] = {}
        self._image_ids: dict[tuple[str, str], int] = {}  # of (name of the file of annotations, picture)
        self._used_ids: set[tuple[str, int]] = set()
        self._count = 0

    def write(self, row: DataRow) -> None:
        """Add a row; without text it may be a picture without objects."""
        only_picture(row)
        is_caption = not row.objects and row.suffix is not None
        if is_caption and row.prefix.split(" ")[0] not in CAPTION_WORDS:
            raise UnusableRow("COCO holds objects and captions, and the row is neither", repr(row.prefix))
        height, width = row_size(row)
        kind = f"{'captions' if is_caption else 'instances'}_{row.split}"
        picture = self._pictures.add(self._folder / "images" / row.split, row)
        image_id = self._image(kind, picture, row, height, width)
        if is_caption:
            self._add(kind, {"image_id": image_id, "caption": row.suffix})
        for thing in row.objects:
            self._add(kind, {"image_id": image_id, **self._object(thing, height, width)})

    def _image(self, kind: str, picture: str, row: DataRow, height: int, width: int) -> int:
        if (kind, picture) not in self._image_ids:
            image_id = self._new_image_id(kind, row.id)
            self._image_ids[kind, picture] = image_id
            entry = {"id": image_id, "file_name": picture, "height": height, "width": width}
            self._append(kind, "images", entry)
        return self._image_ids[kind, picture]

    def _new_image_id(self, kind: str, row_id: str) -> int:
        """The number that the picture had in COCO, where it had one and it is free."""
        stated = row_id.split(":")[0]
        image_id = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 16 else 1
        while (kind, image_id) in self._used_ids:
            image_id = len(self._image_ids) + 1 if image_id <= len(self._image_ids) else image_id + 1
        self._used_ids.add((kind, image_id))
        return image_id

    def _object(self, thing: Annotation, height: int, width: int) -> dict[str, Any]:
        y_min, x_min, y_max, x_max = thing.box.pixels(height, width)
        entry: dict[str, Any] = {
            "category_id": self._categories.setdefault(thing.label, len(self._categories) + 1),
            "bbox": [round(value, 3) for value in (x_min, y_min, x_max - x_min, y_max - y_min)],
            "area": round((x_max - x_min) * (y_max - y_min), 3),
            "iscrowd": int(thing.is_crowd),
        }
        if thing.polygons:
            entry["segmentation"] = [_flat(polygon, height, width) for polygon in thing.polygons]
            entry["area"] = round(sum(polygon_area(flat) for flat in entry["segmentation"]), 3)
        elif thing.rle is not None:
            entry |= {"segmentation": dict(thing.rle), "area": rle_area(thing.rle)}
        return entry

    def _add(self, kind: str, entry: dict[str, Any]) -> None:
        self._count += 1
        self._append(kind, "annotations", {"id": self._count, **entry})

    def _append(self, kind: str, part: str, entry: dict[str, Any]) -> None:
        path = self._part(kind, part)
        separator = ",\n" if path in self._parts else ""
        self._parts.write(path, separator + json.dumps(entry, ensure_ascii=False))

    def _part(self, kind: str, part: str) -> Path:
        return self._folder / "annotations" / f"{kind}.{part}"

    def close(self) -> None:
        """Put the files together, each with all categories."""
        self._parts.close()
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        for kind in dict.fromkeys(kind for kind, _ in self._image_ids):
            with (self._folder / "annotations" / f"{kind}.json").open("wb") as file:
                named = {"categories": categories} if kind.startswith("instances") else {}
                file.write(json.dumps(named, ensure_ascii=False).removesuffix("}").encode())
                for number, part in enumerate(_PARTS):
                    separator = ",\n" if named or number else ""
                    file.write(f'{separator}"{part}": [\n'.encode())
                    self._move(self._part(kind, part), file)
                    file.write(b"\n]")
                file.write(b"}\n")

    @staticmethod
    def _move(part: Path, file: Any) -> None:
        if part.exists():  # no annotations where no picture has an object
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)
            part.unlink()


def _flat(polygon: tuple[tuple[float, float], ...], height: int, width: int) -> list[float]:
    return [round(value, 3) for x, y in polygon for value in (x * width, y * height)]
