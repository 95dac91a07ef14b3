import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.detection import box_iou, mean_box_iou
from paligemma2.types import Box, Detection

UNIT = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
LEFT_HALF = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=0.5)
RIGHT_HALF = Box(y_min=0.0, x_min=0.5, y_max=1.0, x_max=1.0)
TOP_HALF = Box(y_min=0.0, x_min=0.0, y_max=0.5, x_max=1.0)
LINE = Box(y_min=0.0, x_min=0.5, y_max=1.0, x_max=0.5)

fractions = st.floats(0, 1)
boxes = st.builds(Box, y_min=fractions, x_min=fractions, y_max=fractions, x_max=fractions)
detections = st.lists(st.builds(Detection, label=st.sampled_from("ab"), box=boxes), max_size=5)


def found(label: str, box: Box) -> Detection:
    return Detection(label=label, box=box)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (UNIT, UNIT, 1.0),
        (UNIT, LEFT_HALF, 0.5),
        (LEFT_HALF, TOP_HALF, 1 / 3),  # a quarter shared, three quarters covered
        (LEFT_HALF, RIGHT_HALF, 0.0),  # they only touch
        (LINE, LINE, 0.0),
        (Box(y_min=1.0, x_min=1.0, y_max=0.0, x_max=0.0), UNIT, 0.0),
    ],
)
def test_worked_overlaps(a: Box, b: Box, expected: float) -> None:
    assert box_iou(a, b) == pytest.approx(expected)


@given(boxes, boxes)
def test_overlap_is_symmetric_and_between_0_and_1(a: Box, b: Box) -> None:
    assert box_iou(a, b) == box_iou(b, a)
    assert 0 <= box_iou(a, b) <= 1 + 1e-9


def test_a_missing_and_an_extra_object_count_as_zero() -> None:
    cat, dog = found("cat", UNIT), found("dog", LEFT_HALF)
    assert mean_box_iou([cat], [cat, dog]) == 0.5
    assert mean_box_iou([cat, dog], [cat]) == 0.5
    assert mean_box_iou([], [cat]) == 0.0
    assert mean_box_iou([cat], []) == 0.0
    assert mean_box_iou([], []) == 1.0


def test_a_wrong_label_has_no_partner() -> None:
    assert mean_box_iou([found("cat", UNIT)], [found("dog", UNIT)]) == 0.0


def test_each_object_has_one_partner_at_most() -> None:
    twice = [found("cat", UNIT), found("cat", UNIT)]
    assert mean_box_iou(twice, [found("cat", UNIT)]) == 0.5


def test_the_best_pair_is_taken_first() -> None:
    predicted = [found("cat", UNIT), found("cat", LEFT_HALF)]
    expected = [found("cat", LEFT_HALF), found("cat", TOP_HALF)]
    assert mean_box_iou(predicted, expected) == pytest.approx((1.0 + 0.5) / 2)


@given(detections, detections, st.randoms(use_true_random=False))
def test_the_order_of_objects_does_not_matter_unless_pairs_tie(predicted, expected, random) -> None:
    score = mean_box_iou(predicted, expected)
    assert 0 <= score <= 1 + 1e-9
    ious = [box_iou(a.box, b.box) for a in predicted for b in expected if a.label == b.label]
    if len(set(ious)) == len(ious):
        shuffled = random.sample(predicted, len(predicted))
        assert mean_box_iou(shuffled, expected) == pytest.approx(score)
