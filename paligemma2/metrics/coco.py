"""COCO's average precision of boxes and masks, computed by `pycocotools` itself (extra `masks`)."""

import contextlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from paligemma2.errors import DataError, InputError
from paligemma2.optional import require
from paligemma2.processing.masks import mask_to_rle
from paligemma2.types import Detection

ImageId: TypeAlias = int | str
Region: TypeAlias = Literal["boxes", "masks"]
_COCO_NAMES: Mapping[Region, str] = {"boxes": "bbox", "masks": "segm"}


@dataclass(frozen=True, kw_only=True)
class TruePicture:
    """What is in one picture.

    Attributes:
        id: names the picture among all.
        height: in pixels.
        width: in pixels.
        objects: what is to be found.
        crowds: regions that hold many objects of their label; predictions inside count neither way.
    """

    id: ImageId
    height: int
    width: int
    objects: tuple[Detection, ...]
    crowds: tuple[Detection, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CocoScores:
    """COCO's figures from 0 to 1; None where there is nothing to find.

    Attributes:
        ap: average precision, mean over labels and over the IoU thresholds 0.5, 0.55 … 0.95.
        ap50: the same at IoU 0.5 alone.
        ap75: the same at IoU 0.75 alone.
        ap_small: `ap` of objects below 32² pixels.
        ap_medium: `ap` of objects from 32² to 96² pixels.
        ap_large: `ap` of objects above 96² pixels.
        recall: the share of objects found by at most 100 predictions per picture, mean as in `ap`.
        by_label: `ap` of each label that is in some picture.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    recall: float
    by_label: Mapping[str, float]


def coco_scores(
    predicted: Iterable[tuple[ImageId, Detection]],
    pictures: Sequence[TruePicture],
    *,
    region: Region = "boxes",
) -> CocoScores:
    """COCO's scores of predictions over all pictures together.

    As in COCO, a prediction whose label is in no picture counts nowhere, at most 100 predictions count per
    picture and label, and the size of an object is the area of its mask where there is one.

    Args:
        predicted: a picture and an object in it; the scores rank the objects.
        pictures: every picture that the model was asked about, also those without objects.
        region: compare boxes or masks.

    Raises:
        DataError: two pictures have one id, there is no object to find, or an object has no mask to compare.
        InputError: a prediction has no score or is of an unknown picture.
        MissingExtra: `pycocotools` is not installed.
    """
    truth = _Truth(pictures, region)
    coco, cocoeval = (require(f"pycocotools.{name}", extra="masks") for name in ("coco", "cocoeval"))
    results = [truth.result(image_id, found) for image_id, found in predicted]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = cocoeval.COCOeval(
            _indexed(coco, truth, truth.annotations),
            _indexed(coco, truth, [result for result in results if result["category_id"]]),
            _COCO_NAMES[region],
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return _scores(evaluation, truth.labels)


class _Truth:
    """The pictures in COCO's terms: its ids are numbers from 1."""

    def __init__(self, pictures: Sequence[TruePicture], region: Region) -> None:
        self._region = region
        self.pictures = {picture.id: (number, picture) for number, picture in enumerate(pictures, start=1)}
        if len(self.pictures) < len(pictures):
            [(twice, _)] = Counter(picture.id for picture in pictures).most_common(1)
            raise DataError(f"two pictures have the id {twice!r}", hint="give each picture its own id")
        self.labels = sorted({found.label for picture in pictures for found in picture.objects})
        if not self.labels:
            raise DataError(
                f"none of {len(pictures)} pictures has an object to find",
                hint="average precision needs at least one; check the annotations",
            )
        crowd_labels = {found.label for picture in pictures for found in picture.crowds}
        names = [*self.labels, *sorted(crowd_labels - set(self.labels))]
        self._categories = {label: number for number, label in enumerate(names, start=1)}
        self.annotations = [
            self._shape(number, picture, found) | _size_of_truth(found) | {"iscrowd": int(is_crowd)}
            for number, picture in self.pictures.values()
            for is_crowd, objects in enumerate((picture.objects, picture.crowds))
            for found in objects
        ]

    @property
    def head(self) -> dict[str, list[dict[str, Any]]]:
        """The images and categories of the annotation file."""
        return {
            "images": [
                {"id": number, "height": picture.height, "width": picture.width}
                for number, picture in self.pictures.values()
            ],
            "categories": [{"id": number} for number in self._categories.values()],
        }

    def result(self, image_id: ImageId, found: Detection) -> dict[str, Any]:
        """A prediction in COCO's terms; its category is 0 if no picture has the label."""
        if image_id not in self.pictures:
            raise InputError(
                f"a prediction is of picture {image_id!r}, which is not among the {len(self.pictures)} given",
                hint="give every picture that was asked about, with the same ids",
            )
        if found.score is None or not math.isfinite(found.score):
            raise InputError(
                f"picture {image_id!r}: the predicted {found.label!r} has the score {found.score}",
                hint="objects are ranked by their scores; `PaliGemma2.detect` gives them",
            )
        return self._shape(*self.pictures[image_id], found) | {"iscrowd": 0, "score": found.score}

    def _shape(self, number: int, picture: TruePicture, found: Detection) -> dict[str, Any]:
        y_min, x_min, y_max, x_max = found.box.pixels(picture.height, picture.width)
        shape = {
            "image_id": number,
            "category_id": self._categories.get(found.label, 0),
            "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
            "area": (x_max - x_min) * (y_max - y_min),
        }
        if self._region == "masks":
            shape |= {"segmentation": self._run_lengths(picture, found), "area": _num_pixels(found)}
        return shape

    def _run_lengths(self, picture: TruePicture, found: Detection) -> Mapping[str, Any]:
        size = (picture.height, picture.width)
        if found.mask is None or found.mask.shape != size:
            what = "no mask" if found.mask is None else f"a mask of {found.mask.shape} pixels"
            raise DataError(
                f"picture {picture.id!r} of {size} pixels: a {found.label!r} has {what}",
                hint="give masks of the whole picture, or compare boxes",
            )
        return mask_to_rle(found.mask)


def _indexed(coco: Any, truth: _Truth, shapes: Sequence[dict[str, Any]]) -> Any:
    numbered = [shape | {"id": number} for number, shape in enumerate(shapes, start=1)]
    made = coco.COCO()
    made.dataset = {**truth.head, "annotations": numbered}
    made.createIndex()
    return made


def _scores(evaluation: Any, labels: Sequence[str]) -> CocoScores:
    ap, ap50, ap75, small, medium, large, _, _, recall = map(float, evaluation.stats[:9])
    every_size, most_predictions = 0, -1
    precision = evaluation.eval["precision"][:, :, :, every_size, most_predictions]  # [ious, recalls, labels]
    by_label = {label: float(precision[:, :, number].mean()) for number, label in enumerate(labels)}
    return CocoScores(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        ap_small=_or_none(small),
        ap_medium=_or_none(medium),
        ap_large=_or_none(large),
        recall=recall,
        by_label=by_label,
    )


def _or_none(value: float) -> float | None:
    """COCO writes -1 where there is nothing to find."""
    return None if value < 0 else value


def _num_pixels(found: Detection) -> int:
    return 0 if found.mask is None else int(np.count_nonzero(found.mask))


def _size_of_truth(found: Detection) -> dict[str, int]:
    """COCO takes the size of an object from its mask, also where boxes are compared."""
    return {} if found.mask is None else {"area": _num_pixels(found)}
