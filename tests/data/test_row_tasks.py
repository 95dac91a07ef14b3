from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from paligemma2.data.formats.outlines import mask_of
from paligemma2.data.row_tasks import Codes, MaskCoding, Task, to_objects, to_text
from paligemma2.data.rows import Annotation, DataRow, RowProblem, UnusableRow
from paligemma2.errors import InputError
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Box
from tests.data.small_data import thing

HEIGHT, WIDTH = 400, 600
CODES = tuple(range(16))


class Tiles:
    """A codec that is easy to follow: a code is how full one of 4 × 4 tiles is, in steps of 127."""

    def __init__(self) -> None:
        self.windows: list[NDArray[np.float32]] = []

    def encode(self, windows: NDArray[np.float32]) -> list[Codes]:
        self.windows += list(windows)
        full = windows.reshape(-1, 4, 16, 4, 16).mean(axis=(2, 4)).reshape(-1, 16)
        return [tuple(int(code) for code in np.rint(one * 127)) for one in full]

    def decode(self, codes: Sequence[Codes]) -> NDArray[np.floating[Any]]:
        tiles = np.array(codes, dtype=np.float32).reshape(-1, 4, 4) / 127 * 2 - 1
        return tiles.repeat(16, axis=1).repeat(16, axis=2)


TILES = Tiles()
CODING = MaskCoding(encode=TILES.encode, decode=TILES.decode)


def row(*objects: Annotation, prefix: str = "", suffix: str | None = None) -> DataRow:
    return DataRow(
        images=(Path("gone.png"),),
        prefix=prefix,
        suffix=suffix,
        objects=objects,
        height=HEIGHT,
        width=WIDTH,
        id="7",
        file=Path("file"),
    )


def cat(x_min: float = 60, label: str = "cat") -> Annotation:
    return thing(x_min, 40, x_min + 120, 240, HEIGHT, WIDTH, label)


def texts(
    given: DataRow, task: Task | None = None, coding: MaskCoding | None = None
) -> tuple[list[DataRow], list[str]]:
    problems: list[RowProblem] = []
    rows = list(to_text(given, task, problems.append, coding))
    assert not any(problem.is_skipped for problem in problems)
    return rows, [problem.reason for problem in problems]


def objects(
    given: DataRow, task: Task | None = None, coding: MaskCoding | None = None
) -> tuple[DataRow, list[str]]:
    problems: list[RowProblem] = []
    return to_objects(given, task, problems.append, coding), [problem.reason for problem in problems]


@pytest.mark.parametrize("task", [None, "detect"])
def test_objects_become_a_question_for_each_label_and_an_answer_with_all_boxes(task: Task | None) -> None:
    (made,), problems = texts(row(cat(), cat(label="hat"), cat(200)), task)
    assert problems == []
    assert made.prefix == "detect cat ; hat"
    parsed = parse_answer(made.suffix or "")
    assert parsed.problems == ()
    assert [found.label for found in parsed.detections] == ["cat", "hat", "cat"]
    assert [found.codes for found in parsed.detections] == [(), (), ()]
    for found, given in zip(parsed.detections, (cat(), cat(), cat(200)), strict=True):
        assert found.box.pixels(1023, 1023) == pytest.approx(given.box.pixels(1023, 1023), abs=0.5)


def test_segment_makes_a_row_per_label_with_the_codes_of_each_mask() -> None:
    made, problems = texts(row(cat(), cat(label="hat"), cat(200)), "segment", CODING)
    assert problems == []
    assert [(one.prefix, one.id) for one in made] == [("segment cat", "7:cat"), ("segment hat", "7:hat")]
    first, second = (parse_answer(one.suffix or "").detections for one in made)
    assert [found.label for found in first + second] == ["cat", "cat", "hat"]
    diamond = (32, 95, 95, 32, 95, 127, 127, 95, 95, 127, 127, 95, 32, 95, 95, 32)
    for found in first + second:
        assert found.codes == pytest.approx(diamond, abs=34)
        assert found.codes[5] > 120  # its inside is full, its corners are not
        assert found.codes[0] < 10


def test_what_the_codec_sees_is_the_inside_of_the_box() -> None:
    TILES.windows.clear()
    texts(row(cat()), "segment", CODING)
    (window,) = TILES.windows
    assert window.shape == (64, 64)
    assert window[32].mean() > 0.95
    assert window.mean() == pytest.approx(0.5, abs=0.02)


def test_text_stays_as_it_is_and_its_kind_is_respected() -> None:
    caption, box = row(prefix="caption en", suffix="a cat"), row(prefix="detect cat", suffix="x")
    assert texts(caption) == ([caption], [])
    assert texts(caption, "caption") == ([caption], [])
    assert texts(box, "detect") == ([box], [])
    with pytest.raises(UnusableRow, match="the row is no caption"):
        texts(box, "caption")
    with pytest.raises(UnusableRow, match="the row has no objects"):
        texts(caption, "detect")


def test_a_row_with_text_and_objects_keeps_its_text_until_a_task_is_named() -> None:
    both = row(cat(), prefix="caption en", suffix="a cat")
    assert texts(both) == ([both], [])
    assert [made.prefix for made in texts(both, "detect")[0]] == ["detect cat"]


def test_segmentation_in_text_becomes_detection_without_codes() -> None:
    (source,), _ = texts(row(cat()), "segment", CODING)
    assert "<seg" in (source.suffix or "")
    (made,), _ = texts(replace(source, objects=()), "detect")
    assert made.prefix == "detect cat"
    assert "<seg" not in (made.suffix or "")


def test_a_row_without_objects_is_refused() -> None:
    with pytest.raises(UnusableRow, match="the row has no objects"):
        texts(row())


def test_crowds_and_objects_without_outline_are_left_out_and_named() -> None:
    crowd, plain = replace(cat(), is_crowd=True), replace(cat(label="hat"), polygons=())
    (made,), problems = texts(row(crowd, cat(), plain), "segment", CODING)
    assert made.prefix == "segment cat"
    assert problems == ["a crowd region is left out", "an object without outline is left out"]
    with pytest.raises(UnusableRow, match="the row has no objects"):
        texts(row(crowd))
    with pytest.raises(UnusableRow, match="the row has no outlines"):
        texts(row(plain), "segment", CODING)


@pytest.mark.parametrize("label", ["a;b", "<loc0001>", " "])
def test_a_label_that_would_not_parse_back_costs_the_row(label: str) -> None:
    with pytest.raises(UnusableRow, match="a label cannot be written"):
        texts(row(cat(label=label)))


def test_masks_need_a_codec() -> None:
    with pytest.raises(InputError, match="need the mask codec"):
        texts(row(cat()), "segment")


def test_an_answer_becomes_objects() -> None:
    (source,), _ = texts(row(cat(), cat(200, "hat")))
    made, problems = objects(replace(source, objects=()))
    assert problems == []
    assert (made.prefix, made.suffix) == ("", None)
    assert [one.label for one in made.objects] == ["cat", "hat"]


def test_malformed_parts_of_an_answer_are_named_and_the_rest_is_kept() -> None:
    suffix = "<loc0001><loc0002> cat ; <loc0001><loc0002><loc0500><loc0600> hat"
    made, problems = objects(row(prefix="detect cat ; hat", suffix=suffix))
    assert [one.label for one in made.objects] == ["hat"]
    assert problems == ["a part of the answer is malformed"]


def test_other_text_stays_text_unless_a_task_wants_objects() -> None:
    caption = row(prefix="caption en", suffix="a cat")
    assert objects(caption) == (caption, [])
    assert objects(caption, "caption") == (caption, [])
    with pytest.raises(UnusableRow, match="the row has no objects"):
        objects(caption, "detect")
    with pytest.raises(UnusableRow, match="the row is no caption"):
        objects(row(cat()), "caption")


def test_a_picture_without_objects_stays_a_row_of_objects() -> None:
    assert objects(row()) == (row(), [])
    assert objects(row(), "detect") == (row(), [])


def test_detect_drops_outlines_and_segment_drops_what_has_none() -> None:
    given = row(cat(), replace(cat(label="hat"), polygons=()))
    made, _ = objects(given, "detect")
    assert [one.polygons for one in made.objects] == [(), ()]
    made, problems = objects(given, "segment")
    assert [one.label for one in made.objects] == ["cat"]
    assert problems == ["an object without outline is left out"]


def test_mask_tokens_become_the_mask_in_its_box() -> None:
    corners = cat().box
    left_half = tuple(
        (x, y)
        for x in (corners.x_min, (corners.x_min + corners.x_max) / 2)
        for y in ((corners.y_min, corners.y_max) if x == corners.x_min else (corners.y_max, corners.y_min))
    )
    half = replace(cat(), polygons=(left_half,))
    (source,), _ = texts(row(half), "segment", CODING)
    made, problems = objects(replace(source, objects=()), "segment", CODING)
    assert problems == []
    (found,) = made.objects
    mask, original = mask_of(found, HEIGHT, WIDTH), mask_of(half, HEIGHT, WIDTH)
    assert mask is not None
    assert original is not None
    assert (mask & original).sum() / (mask | original).sum() > 0.95


def test_mask_tokens_are_left_out_and_named_without_a_task() -> None:
    (source,), _ = texts(row(cat()), "segment", CODING)
    made, problems = objects(replace(source, objects=()))
    assert (made.objects[0].codes, made.objects[0].rle) == ((), None)
    assert problems == ["mask tokens are left out"]


def test_boxes_survive_text_and_back_up_to_half_a_step() -> None:
    given = [
        Annotation(label="cat", box=Box(y_min=a / 9, x_min=b / 7, y_max=a / 9 + 0.3, x_max=b / 7 + 0.2))
        for a in range(5)
        for b in range(5)
    ]
    (source,), _ = texts(row(*given))
    made, _ = objects(replace(source, objects=()))
    for one, other in zip(made.objects, given, strict=True):
        assert one.box.pixels(1, 1) == pytest.approx(other.box.pixels(1, 1), abs=0.5 / 1023 + 1e-9)
