"""`refs(unc).p` and `instances.json`, as the zip files of RefCOCO unpack."""

from collections.abc import Iterable, Sequence

from paligemma2.data.miniatures.content import SIDE, Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.referring_sentences import (
    ReferringFiles,
    ReferringPictures,
    ReferringSentences,
)
from paligemma2.data.synthetic.samples import Target
from paligemma2.types import Box

_MOST_OBJECTS = 100


def write_sentences(files: Files, reader: ReferringSentences, contents: Sequence[Content]) -> None:
    """The sentences of one split of one of the data sets."""
    _write(files, reader.files, reader.split, contents)


def write_pictures(files: Files, reader: ReferringPictures, contents: Sequence[Content]) -> None:
    """The training split of all data sets, which share its pictures."""
    for each in reader.files:
        _write(files, each, reader.split, contents)


def _write(files: Files, names: ReferringFiles, split: str, contents: Sequence[Content]) -> None:
    references = files.rows(f"{names.folder}/refs({names.partition}).p")
    instances = files.table(
        f"{names.folder}/instances.json", images=[], annotations=[], categories=[{"id": 1, "name": "shape"}]
    )
    for content in contents:
        name = f"COCO_train2014_{content.number:012d}.jpg"
        files.picture(f"train2014/{name}", content.pictures[0])
        image = {"id": content.number, "file_name": name, "height": SIDE, "width": SIDE}
        instances["images"].append(image)
        for place, (box, targets) in enumerate(_by_object(content.objects)):
            number = content.number * _MOST_OBJECTS + place
            instances["annotations"].append(_annotation(number, content.number, box, targets[0]))
            references.append(
                {
                    "ref_id": number,
                    "ann_id": number,
                    "image_id": content.number,
                    "category_id": 1,
                    "split": split,
                    "file_name": f"{name.removesuffix('.jpg')}_{place}.jpg",
                    "sent_ids": [number * 10 + i for i in range(len(targets))],
                    "sentences": [
                        {
                            "sent_id": number * 10 + i,
                            "sent": target.label,
                            "raw": target.label,
                            "tokens": target.label.split(),
                        }
                        for i, target in enumerate(targets)
                    ],
                }
            )


def _by_object(objects: Sequence[Target]) -> Iterable[tuple[Box, list[Target]]]:
    """All ways to name each object."""
    found: dict[Box, list[Target]] = {}
    for target in objects:
        found.setdefault(target.box, []).append(target)
    return found.items()


def _annotation(number: int, image: int, box: Box, target: Target) -> dict[str, object]:
    y_min, x_min, y_max, x_max = box.pixels(SIDE, SIDE)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
        "area": (x_max - x_min) * (y_max - y_min),
        "iscrowd": 0,
        "segmentation": [(target.outline * SIDE).round(2).ravel().tolist()],
    }
