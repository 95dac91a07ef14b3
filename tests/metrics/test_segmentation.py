import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from paligemma2.errors import DataError, InputError
from paligemma2.metrics.masks import mask_iou
from paligemma2.metrics.scores import Reference
from paligemma2.metrics.segmentation import (
    SEGMENTATION_IOU,
    mask_meta,
    parse_mask_answer,
    segmentation_iou,
)
from paligemma2.processing.masks import Mask
from tests.metric_properties import check_scores

CODES = "".join(f"<seg{code:03d}>" for code in range(16))


def full(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Everything inside of the box."""
    return np.ones((len(codes), 64, 64), dtype=np.float32)


def by_first_code(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """As many rows from above as the first code says."""
    rows = np.arange(64)[None, :, None] < codes[:, :1, None]
    return np.broadcast_to(np.where(rows, 1, -1), (len(codes), 64, 64)).astype(np.float32)


def answer(*locations: int, codes: str = CODES) -> str:
    return "".join(f"<loc{location:04d}>" for location in locations) + codes


def rectangle(top: int, left: int, bottom: int, right: int, height: int = 40, width: int = 60) -> Mask:
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def score(text: str, mask: Mask) -> float:
    return segmentation_iou(full)([text], [Reference(meta=mask_meta(mask))]).value


def test_a_mask_is_compared_on_the_pixels_of_the_picture() -> None:
    assert score(answer(0, 0, 1023, 1023), rectangle(0, 0, 40, 60)) == 1
    assert score(answer(0, 0, 1023, 1023), rectangle(0, 0, 20, 60)) == 0.5
    assert score(answer(0, 0, 512, 1023), rectangle(0, 0, 40, 60)) == 0.5


def test_corners_lose_their_fractions_of_pixels() -> None:
    # 537 / 1023 · 40 is 20.997; the picture's lower part begins in row 20.
    assert score(answer(537, 0, 1023, 1023), rectangle(20, 0, 40, 60)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cat",
        answer(0, 0, 1023, 1023, codes=""),
        answer(0, 0, 1023, 1023, codes=CODES[:-8]),
        answer(0, 0, 1023, 1023, codes=CODES[:-8] + "<loc0000>"),
        answer(0, 0, 1023, 1023, codes=CODES[:-8] + "<seg128>"),
        answer(0, 0, 1024, 1023),
        answer(5, 0, 5, 1023),
        answer(0, 9, 1023, 5),
        " " + answer(0, 0, 1023, 1023),
        "<loc٠٠٠٠>" + answer(0, 1023, 1023),
    ],
)
def test_an_answer_that_is_no_mask_has_zero(text: str) -> None:
    assert parse_mask_answer(text) is None
    scores = segmentation_iou(full)([text], [Reference(meta=mask_meta(rectangle(0, 0, 40, 60)))])
    assert (scores.value, scores.parts["invalid"], scores.parts["boxacc/0.5"]) == (0, 1, 0)


def test_what_follows_the_first_20_tokens_does_not_matter() -> None:
    text = answer(0, 0, 1023, 1023)
    assert score(text + " cat ; <loc0000>", rectangle(0, 0, 40, 60)) == 1


def test_a_box_without_a_pixel_has_no_mask_but_is_a_box() -> None:
    mask, box = rectangle(0, 0, 1, 1), [0.0, 0.0, 1 / 1023, 1 / 1023]
    scores = segmentation_iou(full)([answer(0, 0, 1, 1)], [Reference(meta=mask_meta(mask, box))])
    assert (scores.value, scores.parts["invalid"], scores.parts["boxacc/0.75"]) == (0, 1, 1)


def test_two_empty_masks_have_zero() -> None:
    text = answer(0, 0, 1023, 1023, codes="<seg000>" * 16)
    metric = segmentation_iou(by_first_code)
    assert metric([text], [Reference(meta=mask_meta(rectangle(0, 0, 0, 0)))]).value == 0


def test_boxes_are_compared_with_that_of_the_mask_or_of_the_annotation() -> None:
    text, mask = answer(0, 0, 614, 1023), rectangle(0, 0, 40, 60)
    parts = segmentation_iou(full)([text], [Reference(meta=mask_meta(mask))]).parts
    assert (parts["boxacc/0.5"], parts["boxacc/0.75"]) == (1, 0)
    parts = segmentation_iou(full)([text], [Reference(meta=mask_meta(mask, [0, 0, 0.6, 1]))]).parts
    assert parts["boxacc/0.75"] == 1


def test_each_answer_gets_its_own_mask_also_among_many() -> None:
    texts = [answer(0, 0, 1023, 1023, codes=f"<seg{i % 65:03d}>" + "<seg000>" * 15) for i in range(600)]
    texts[3] = "none"
    references = [Reference(meta=mask_meta(rectangle(0, 0, i % 65, 60, height=64))) for i in range(600)]
    scores = segmentation_iou(by_first_code)(texts, references)
    assert list(scores.values) == [float(i % 65 > 0 and i != 3) for i in range(600)]


def test_the_reference_is_plain_json() -> None:
    meta = mask_meta(rectangle(1, 2, 3, 4), [0, 0, 1, 1])
    assert json.loads(json.dumps(meta)) == meta


def test_without_a_decoder_or_a_mask_it_says_what_is_missing() -> None:
    reference = Reference(meta=mask_meta(rectangle(0, 0, 1, 1)))
    assert SEGMENTATION_IOU.reads_masks
    with pytest.raises(InputError, match="decodes"):
        SEGMENTATION_IOU(["x"], [reference])
    with pytest.raises(DataError, match="no mask"):
        segmentation_iou(full)(["x"], [Reference()])


corners = st.tuples(*[st.integers(0, 1023)] * 4)


@given(st.lists(st.tuples(corners, corners), min_size=1, max_size=4))
def test_scores_are_fractions_in_any_order(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    texts = [answer(*locations) for locations, _ in pairs]
    masks = [
        rectangle(top * 40 // 1023, left * 60 // 1023, bottom * 40 // 1023, right * 60 // 1023)
        for _, (top, left, bottom, right) in pairs
    ]
    references = [Reference(meta=mask_meta(mask)) for mask in masks]
    check_scores(segmentation_iou(full), texts, references)
    for (locations, _), mask, text in zip(pairs, masks, texts, strict=True):
        y_min, x_min, y_max, x_max = (location / 1023 for location in locations)
        mine = rectangle(int(y_min * 40), int(x_min * 60), int(y_max * 40), int(x_max * 60))
        assert score(text, mask) == (mask_iou(mine, mask) if parse_mask_answer(text) else 0)
