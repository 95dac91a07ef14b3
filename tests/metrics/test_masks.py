import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from paligemma2.errors import InputError
from paligemma2.metrics.detection import mean_box_iou
from paligemma2.metrics.masks import mask_iou, mean_mask_iou
from paligemma2.processing.masks import mask_box
from paligemma2.types import Box, Detection

WHOLE = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
masks = arrays.arrays(np.bool_, (6, 5))


def filled(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((10, 10), dtype=bool)
    mask[rows, columns] = True
    return mask


ALL, LEFT, TOP = (
    filled(slice(0, 10), slice(0, 10)),
    filled(slice(0, 10), slice(0, 5)),
    filled(slice(0, 5), slice(0, 10)),
)
EMPTY = filled(slice(0, 0), slice(0, 0))


def found(label: str, mask: np.ndarray | None) -> Detection:
    return Detection(label=label, box=WHOLE, mask=mask)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(ALL, ALL, 1.0), (ALL, LEFT, 0.5), (LEFT, TOP, 1 / 3), (LEFT, ~LEFT, 0.0), (EMPTY, EMPTY, 0.0)],
)
def test_worked_overlaps(a: np.ndarray, b: np.ndarray, expected: float) -> None:
    assert mask_iou(a, b) == pytest.approx(expected)


@given(masks, masks)
def test_overlap_is_symmetric_between_0_and_1_and_1_for_equals_only(a: np.ndarray, b: np.ndarray) -> None:
    assert mask_iou(a, b) == mask_iou(b, a)
    assert 0 <= mask_iou(a, b) <= 1
    assert (mask_iou(a, b) == 1) == (a.any() and (a == b).all())


def test_masks_of_different_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        mask_iou(ALL, ALL[:5])
    with pytest.raises(InputError, match="uint8"):
        mask_iou(ALL, ALL.astype(np.uint8))


def test_missing_extra_and_foreign_objects_count_as_zero() -> None:
    cat = found("cat", ALL)
    assert mean_mask_iou([cat], [cat]) == 1.0
    assert mean_mask_iou([cat], [cat, found("dog", LEFT)]) == 0.5
    assert mean_mask_iou([cat, cat], [cat]) == 0.5
    assert mean_mask_iou([cat], [found("dog", ALL)]) == 0.0
    assert mean_mask_iou([], []) == 1.0


def test_an_object_without_a_mask_overlaps_nothing() -> None:
    assert mean_mask_iou([found("cat", None)], [found("cat", ALL)]) == 0.0
    assert mean_mask_iou([found("cat", ALL)], [found("cat", None)]) == 0.0


def test_partners_are_chosen_by_their_masks() -> None:
    predicted = [found("cat", LEFT), found("cat", TOP)]
    assert mean_mask_iou(predicted, predicted[::-1]) == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=4))
@example([(2, 4), (0, 3), (2, 2), (0, 0)])  # two pairs overlap alike, but for the last bit
def test_rectangles_score_as_their_boxes(places: list[tuple[int, int]]) -> None:
    objects = []
    for y, x in places:
        mask = filled(slice(y, y + 5), slice(x, x + 3))
        box = mask_box(mask)
        assert box is not None
        objects.append(Detection(label="cat", box=box, mask=mask))
    predicted, expected = objects[::2], objects[1::2]
    assert mean_mask_iou(predicted, expected) == pytest.approx(mean_box_iou(predicted, expected))
