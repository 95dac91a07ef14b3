from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paligemma2.drawing.sheet import MAX_TILES
from paligemma2.errors import ImageError, InputError, WorkError
from paligemma2.jobs.predict_sheet import ResultSheet, check_sheet, summary
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import ParsedAnswer

CATS = parse_answer("<loc0000><loc0000><loc0512><loc0512> cat ; <loc0100><loc0100><loc0900><loc0900> cat")
WORDS = parse_answer("a red <b>circle</b>")


def scored(parsed: ParsedAnswer) -> ParsedAnswer:
    mask = np.zeros((100, 200), dtype=bool)
    mask[10:20, 30:50] = True
    first, *others = parsed.detections
    return replace(parsed, detections=(replace(first, score=0.871, mask=mask), *others))


def written(path: Path, num_pictures: int = 2) -> Path:
    sheet = ResultSheet(path, "detect cat", num_pictures)
    sheet.add(Path("in/cats.png"), Image.new("RGB", (200, 100), "red"), scored(CATS), ["dog", "cat"])
    sheet.add_failure(Path("in/bad.png"), ImageError("in/bad.png: damaged image", hint="…"))
    sheet.add(Path("in/words.png"), Image.new("RGB", (2000, 1000), "blue"), WORDS, [])
    sheet.write()
    return path


def test_a_page_has_pictures_answers_a_table_and_failures(tmp_path):
    page = written(tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    for text in (
        "detect cat",
        "in/cats.png",
        "2 cat",
        "0.87",
        "a red &lt;b&gt;circle",
        "in/bad.png: damaged",
    ):
        assert text in page
    assert page.count("<img") == 2
    cells = ["in/cats.png", "cat", "0.87", "0", "0", "100", "50", "200"]
    position = page.index("<tbody>")
    for cell in cells:
        position = page.index(f">{cell}</td>", position)


def test_few_pictures_are_large_on_a_page_and_many_are_small(tmp_path):
    assert 'width="640"' in written(tmp_path / "few.html", 3).read_text()
    many = written(tmp_path / "many.html", 100).read_text()
    assert 'width="640"' not in many
    assert 'width="320"' in many


def test_a_png_has_a_tile_for_every_picture_read_or_not(tmp_path):
    with Image.open(written(tmp_path / "sheet.png")) as sheet:
        assert sheet.format == "PNG"
        assert (sheet.width, sheet.height) == (2 * 356 + 16, sheet.height)
        colours = {colour for _, colour in sheet.getcolors(1 << 24)}
    assert {(255, 0, 0), (0, 0, 255)} <= colours


def test_an_older_sheet_is_replaced(tmp_path):
    (tmp_path / "sheet.PNG").write_text("old")
    with Image.open(written(tmp_path / "sheet.PNG")) as sheet:
        assert sheet.format == "PNG"


def test_a_place_that_cannot_be_written_is_a_work_error():
    with pytest.raises(WorkError, match="could not be written"):
        written(Path("/proc/nowhere/sheet.html"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<loc0000><loc0000><loc0512><loc0512> cat ; <loc0100><loc0100><loc0900><loc0900> dog",
            "1 cat, 1 dog",
        ),
        ("", "(empty answer)"),
        ("a cat", "a cat"),
    ],
)
def test_answers_in_words(text, expected):
    assert summary(parse_answer(text)) == expected


@pytest.mark.parametrize(
    ("path", "images", "match"),
    [
        ("sheet.jpeg", ["a.png"], "neither .png nor .html"),
        ("sheet", ["a.png"], "neither .png nor .html"),
        ("./a.png", ["a.png"], "one of the pictures"),
        ("sheet.png", [f"{i}.png" for i in range(MAX_TILES + 1)], "401 pictures on one sheet"),
    ],
)
def test_sheets_that_cannot_be_written_are_refused_before_the_work(path, images, match):
    with pytest.raises(InputError, match=match):
        check_sheet(Path(path), [Path(image) for image in images])


def test_a_folder_is_no_sheet(tmp_path):
    (tmp_path / "a.html").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_sheet(tmp_path / "a.html", [Path("a.png")])
