"""Objects as other programs read them: plain dictionaries, COCO results, Roboflow's rows, `supervision`.

Boxes are fractions of the picture; `height` and `width` are those of the picture as it was before it was made
a square. Where it was padded, bring the boxes back with `locations.Placement.to_picture` first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from paligemma2.errors import InputError, MissingExtra
from paligemma2.processing.masks import RunLengths, mask_to_polygons, mask_to_rle
from paligemma2.processing.objects import objects_to_suffix
from paligemma2.types import Detection

if TYPE_CHECKING:
    import supervision

MaskForm = Literal["rle", "polygons"]


class RoboflowRow(TypedDict):
    """One line of a JSONL data set for PaliGemma."""

    image: str
    prefix: str
    suffix: str


def to_dicts(
    detections: Sequence[Detection], height: int, width: int, *, masks: MaskForm = "rle"
) -> list[dict[str, Any]]:
    """The objects as values that `json.dumps` takes.

    Each has `label`, `score` (None if unknown), `box` (fractions), `pixels` (the box in pixels; both have
    y_min, x_min, y_max, x_max), `codes`, and `mask`: None, COCO's run lengths, or a list of polygons
    [[x, y], …] in pixels.

    Raises:
        InputError: a mask is not of this size.
        MissingExtra: polygons need `contourpy`, which is not installed.
    """
    return [
        {
            "label": detection.label,
            "score": detection.score,
            "box": asdict(detection.box),
            "pixels": dict(zip(asdict(detection.box), detection.box.pixels(height, width), strict=True)),
            "codes": list(detection.codes),
            "mask": _mask(detection, height, width, masks),
        }
        for detection in detections
    ]


def to_coco_results(
    detections: Sequence[Detection],
    height: int,
    width: int,
    *,
    image_id: int,
    category_ids: Mapping[str, int],
) -> list[dict[str, Any]]:
    """The objects of one picture as COCO's results format has them, for `COCO.loadRes` of `pycocotools`.

    Each has `image_id`, `category_id`, `bbox` [x, y, width, height] in pixels, `score`, and `segmentation`
    (run lengths) if it has a mask. An object without a score gets 1.0: COCO ranks by scores and has no
    "unknown".

    Args:
        detections: what was found in the picture.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        image_id: of the picture, in the annotation file.
        category_ids: the id of each label in the annotation file.

    Raises:
        InputError: a label is not a category, or a mask is not of this size.
    """
    results = []
    for detection in detections:
        y_min, x_min, y_max, x_max = detection.box.pixels(height, width)
        result: dict[str, Any] = {
            "image_id": image_id,
            "category_id": _class_id(detection.label, category_ids),
            "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
            "score": 1.0 if detection.score is None else detection.score,
        }
        mask = _rle(detection, height, width)
        results.append(result if mask is None else {**result, "segmentation": mask})
    return results


def to_roboflow_row(image: str, prefix: str, detections: Sequence[Detection]) -> RoboflowRow:
    """A line of `_annotations.train.jsonl`, to train on what was found.

    Args:
        image: name of the picture's file, relative to the JSONL file.
        prefix: the prompt, as `prompts.detect("cat", "dog")` makes it.
        detections: written in the order given.

    Raises:
        InputError: an object cannot be written; see `objects.object_to_text`.
    """
    return {"image": image, "prefix": prefix, "suffix": objects_to_suffix(detections)}


def to_supervision(
    detections: Sequence[Detection], height: int, width: int, *, class_names: Sequence[str] | None = None
) -> "supervision.Detections":
    """The objects as `supervision.Detections`: corners in pixels, and the labels in `data["class_name"]`.

    `confidence` is given where every object has a score, and `mask` where every object has a mask; a part of
    them cannot be expressed.

    Args:
        detections: what was found in the picture.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        class_names: a label's place in it is its `class_id`; without it labels are numbered as they appear.

    Raises:
        InputError: a label is not in `class_names`, or a mask is not of this size.
        MissingExtra: `supervision` is not installed.
    """
    library = _supervision()
    labels = [detection.label for detection in detections]
    names = dict.fromkeys(labels) if class_names is None else class_names
    class_ids = {name: i for i, name in enumerate(names)}
    scores = [detection.score for detection in detections]
    corners = [detection.box.pixels(height, width) for detection in detections]
    masks = [_checked_mask(detection, height, width) for detection in detections]
    has_scores = bool(scores) and None not in scores
    has_masks = bool(masks) and all(mask is not None for mask in masks)
    exported: supervision.Detections = library.Detections(
        xyxy=np.array(corners, dtype=np.float32).reshape(-1, 4)[:, [1, 0, 3, 2]],
        mask=np.stack([mask for mask in masks if mask is not None]) if has_masks else None,
        confidence=np.array(scores, dtype=np.float32) if has_scores else None,
        class_id=np.array([_class_id(label, class_ids) for label in labels], dtype=np.int64),
        data={"class_name": np.array(labels, dtype=np.str_)},
    )
    return exported


def _supervision() -> ModuleType:
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "this needs the library 'supervision', which is not installed",
            hint="pip install supervision; it belongs to no extra of paligemma2",
        ) from error
    return supervision


def _class_id(label: str, class_ids: Mapping[str, int]) -> int:
    if label not in class_ids:
        first = ", ".join(map(repr, list(class_ids)[:5]))
        raise InputError(
            f"{label!r} is none of the {len(class_ids)} classes (first: {first})",
            hint="leave out objects with other labels, or add the class",
        )
    return class_ids[label]


def _mask(
    detection: Detection, height: int, width: int, form: MaskForm
) -> RunLengths | list[list[list[float]]] | None:
    if form == "rle":
        return _rle(detection, height, width)
    mask = _checked_mask(detection, height, width)
    return None if mask is None else [polygon.tolist() for polygon in mask_to_polygons(mask)]


def _rle(detection: Detection, height: int, width: int) -> RunLengths | None:
    mask = _checked_mask(detection, height, width)
    return None if mask is None else mask_to_rle(mask)


def _checked_mask(detection: Detection, height: int, width: int) -> "np.ndarray | None":
    mask = detection.mask
    if mask is not None and mask.shape != (height, width):
        raise InputError(
            f"the mask of {detection.label!r} is {list(mask.shape)}, the picture {height} × {width}",
            hint="decode masks for the size of the picture that they are exported with",
        )
    return mask
