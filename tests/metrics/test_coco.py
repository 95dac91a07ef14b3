import contextlib
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from paligemma2.errors import DataError, InputError
from paligemma2.metrics.coco import CocoScores, ImageId, TruePicture, coco_scores
from paligemma2.types import Box, Detection

SIZE = 200
THRESHOLDS = 10  # 0.5, 0.55 … 0.95


def box(y_min: float, x_min: float, y_max: float, x_max: float) -> Box:
    """In pixels of a picture of 200 × 200."""
    return Box.from_pixels((y_min, x_min, y_max, x_max), SIZE, SIZE)


def cat(where: Box, score: float | None = None) -> Detection:
    return Detection(label="cat", box=where, score=score)


def picture(image_id: ImageId, *objects: Detection, crowds: tuple[Detection, ...] = ()) -> TruePicture:
    return TruePicture(id=image_id, height=SIZE, width=SIZE, objects=objects, crowds=crowds)


TOP, BOTTOM = box(0, 0, 100, 100), box(100, 100, 200, 200)


def test_what_is_predicted_as_it_is_scores_1_and_nothing_scores_0() -> None:
    truth = [picture("a", cat(TOP), cat(BOTTOM)), picture("b")]
    perfect = coco_scores([("a", cat(TOP, 0.9)), ("a", cat(BOTTOM, 0.2))], truth)
    assert (perfect.ap, perfect.ap50, perfect.ap75, perfect.recall) == pytest.approx((1, 1, 1, 1))
    assert perfect.by_label == pytest.approx({"cat": 1.0})
    nothing = coco_scores([], truth)
    assert (nothing.ap, nothing.ap50, nothing.recall) == (0, 0, 0)


def test_a_wrong_object_ranked_above_a_right_one_halves_the_precision() -> None:
    truth = [picture("a", cat(TOP))]
    above = coco_scores([("a", cat(BOTTOM, 0.9)), ("a", cat(TOP, 0.8))], truth)
    below = coco_scores([("a", cat(BOTTOM, 0.7)), ("a", cat(TOP, 0.8))], truth)
    assert above.ap50 == pytest.approx(0.5)
    assert below.ap50 == pytest.approx(1.0)


def test_half_of_the_objects_found_is_precision_1_at_51_of_101_recalls() -> None:
    scores = coco_scores([("a", cat(TOP, 0.9))], [picture("a", cat(TOP), cat(BOTTOM))])
    assert scores.ap50 == pytest.approx(51 / 101)
    assert scores.recall == pytest.approx(0.5)


def test_an_overlap_counts_at_the_thresholds_below_it() -> None:
    loose = box(0, 0, 100, 78)  # IoU 0.78: 0.5, 0.55 … 0.75
    scores = coco_scores([("a", cat(loose, 0.9))], [picture("a", cat(TOP))])
    assert scores.ap == pytest.approx(6 / THRESHOLDS)
    assert (scores.ap50, scores.ap75) == pytest.approx((1, 1))


def test_a_second_box_on_one_object_is_wrong() -> None:
    truth = [picture("a", cat(TOP)), picture("b", cat(TOP))]
    found = [("a", cat(TOP, 0.9)), ("a", cat(TOP, 0.8)), ("b", cat(TOP, 0.7))]
    recalls_up_to_half = 51
    expected = (recalls_up_to_half + (101 - recalls_up_to_half) * 2 / 3) / 101
    assert coco_scores(found, truth).ap50 == pytest.approx(expected)


def test_labels_are_averaged_and_a_label_of_no_picture_counts_nowhere() -> None:
    dog = Detection(label="dog", box=BOTTOM)
    found = [("a", cat(TOP, 0.9)), ("a", Detection(label="bird", box=TOP, score=0.99))]
    scores = coco_scores(found, [picture("a", cat(TOP), dog)])
    assert scores.by_label == pytest.approx({"cat": 1.0, "dog": 0.0})
    assert scores.ap == pytest.approx(0.5)


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = picture("a", cat(TOP), crowds=(cat(BOTTOM), Detection(label="dog", box=TOP)))
    found = [("a", cat(box(120, 120, 150, 150), 0.9)), ("a", cat(TOP, 0.8))]
    scores = coco_scores(found, [crowd])
    assert scores.ap == pytest.approx(1.0)
    assert set(scores.by_label) == {"cat"}
    assert coco_scores(found, [picture("a", cat(TOP))]).ap50 == pytest.approx(0.5)


def test_sizes_are_in_pixels_of_the_picture_and_of_the_mask_where_there_is_one() -> None:
    small, medium = cat(box(0, 0, 20, 20)), cat(box(0, 0, 50, 50))
    scores = coco_scores([("a", cat(small.box, 0.5))], [picture("a", small), picture("b", medium)])
    assert (scores.ap_small, scores.ap_medium, scores.ap_large) == pytest.approx((1.0, 0.0, None))
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:10, :10] = True
    thin = Detection(label="cat", box=TOP, mask=mask)
    scores = coco_scores([("a", cat(TOP, 0.5))], [picture("a", thin)])
    assert (scores.ap_small, scores.ap_large) == pytest.approx((1.0, None))


def test_masks_are_compared_as_masks() -> None:
    left, right = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)
    left[:100, :50], right[:100, 50:100] = True, True
    truth = [picture("a", Detection(label="cat", box=TOP, mask=left))]
    same, other = (Detection(label="cat", box=TOP, mask=mask, score=0.5) for mask in (left, right))
    assert coco_scores([("a", same)], truth, region="masks").ap == pytest.approx(1.0)
    assert coco_scores([("a", other)], truth, region="masks").ap == 0.0
    assert coco_scores([("a", other)], truth, region="boxes").ap == pytest.approx(1.0)


def random_objects(rng: random.Random, count: int, is_predicted: bool) -> list[Detection]:
    objects = []
    for _ in range(count):
        y, x = rng.randrange(0, 150), rng.randrange(0, 150)
        where = (y, x, y + rng.randrange(10, 50), x + rng.randrange(10, 50))
        mask = np.zeros((SIZE, SIZE), bool)
        mask[where[0] : where[2], where[1] : where[3]] = True
        mask &= np.add.outer(np.arange(SIZE), np.arange(SIZE)) % rng.randrange(2, 9) > 0
        score = rng.random() if is_predicted else None
        objects.append(Detection(label=rng.choice("abc"), box=box(*where), mask=mask, score=score))
    return objects


def near(found: Detection, rng: random.Random) -> Detection:
    """Almost the same object, with a score."""
    y_min, x_min, y_max, x_max = found.box.pixels(SIZE, SIZE)
    moved = box(y_min + rng.randrange(4), x_min + rng.randrange(4), y_max, x_max)
    assert found.mask is not None
    mask = found.mask & (np.random.default_rng(rng.randrange(99)).random((SIZE, SIZE)) > 0.2)
    return Detection(label=found.label, box=moved, mask=mask, score=rng.random())


def directly(
    predicted: Sequence[tuple[int, Detection]], truth: Sequence[TruePicture], kind: str, folder: Path
) -> list[float]:
    """The figures of pycocotools from files as a user of it would write them."""

    def shape(found: Detection) -> dict[str, object]:
        assert found.mask is not None
        y_min, x_min, y_max, x_max = found.box.pixels(SIZE, SIZE)
        rle = coco_mask.encode(np.asfortranarray(found.mask.astype(np.uint8)))
        rle["counts"] = rle["counts"].decode()
        where = {"bbox": [x_min, y_min, x_max - x_min, y_max - y_min], "segmentation": rle}
        return where | {"category_id": "abc".index(found.label) + 1}

    annotations = [
        shape(found) | {"image_id": each.id, "iscrowd": 0, "area": int(np.sum(found.mask))}
        for each in truth
        for found in each.objects
    ]
    images = [{"id": each.id, "height": SIZE, "width": SIZE} for each in truth]
    categories = [{"id": number, "name": name} for number, name in enumerate("abc", start=1)]
    numbered = [each | {"id": number} for number, each in enumerate(annotations, start=1)]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": numbered, "categories": categories})
    )
    left_out = "segmentation" if kind == "bbox" else "bbox"
    results = [shape(found) | {"image_id": i, "score": found.score} for i, found in predicted]
    for result in results:
        del result[left_out]
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


def figures(scores: CocoScores) -> list[float]:
    first = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large]
    return [-1.0 if value is None else value for value in (*first, scores.recall)]


@pytest.mark.parametrize(("region", "kind"), [("boxes", "bbox"), ("masks", "segm")])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_the_figures_are_those_of_pycocotools(region, kind, seed, tmp_path) -> None:
    rng = random.Random(seed)
    truth = [picture(i, *random_objects(rng, rng.randrange(1, 6), False)) for i in range(1, 4)]
    predicted = [(each.id, near(found, rng)) for each in truth for found in each.objects]
    predicted += [(rng.randrange(1, 4), found) for found in random_objects(rng, 4, True)]
    stats = directly(predicted, truth, kind, tmp_path)
    assert figures(coco_scores(predicted, truth, region=region)) == pytest.approx([*stats[:6], stats[8]])


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    coco_scores([("a", cat(TOP, 0.5))], [picture("a", cat(TOP))])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("score", [None, float("nan")])
def test_a_prediction_without_a_score_cannot_be_ranked(score: float | None) -> None:
    with pytest.raises(InputError, match=f"picture 'a': the predicted 'cat' has the score {score}"):
        coco_scores([("a", cat(TOP, score))], [picture("a", cat(TOP))])


def test_a_prediction_of_an_unknown_picture_is_refused() -> None:
    with pytest.raises(InputError, match="of picture 7, which is not among the 1"):
        coco_scores([(7, cat(TOP, 0.5))], [picture("a", cat(TOP))])


def test_truth_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(DataError, match="two pictures have the id 'a'"):
        coco_scores([], [picture("a", cat(TOP)), picture("b"), picture("a")])
    with pytest.raises(DataError, match="none of 1 pictures has an object"):
        coco_scores([], [picture("a", crowds=(cat(TOP),))])


def test_comparing_masks_needs_masks_of_the_whole_picture() -> None:
    with pytest.raises(DataError, match="a 'cat' has no mask"):
        coco_scores([], [picture("a", cat(TOP))], region="masks")
    short = Detection(label="cat", box=TOP, mask=np.ones((3, 4), bool))
    with pytest.raises(DataError, match=r"a 'cat' has a mask of \(3, 4\) pixels"):
        coco_scores([], [picture("a", short)], region="masks")
