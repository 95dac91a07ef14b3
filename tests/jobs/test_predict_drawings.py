from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from paligemma2.drawing.colours import PALETTE
from paligemma2.errors import ImageError, WorkError
from paligemma2.jobs.predict_drawings import Drawings
from paligemma2.processing.parsing import parse_answer
from tests.small_model import save_picture

CAT = parse_answer("<loc0300><loc0300><loc0700><loc0700> cat")
DOG = parse_answer("<loc0300><loc0300><loc0700><loc0700> dog")


def drawn(images, folder=None, sheet=None, answers=None):
    """The files that are drawn of these pictures."""
    drawings = Drawings(images=images, prompt="detect cat", folder=folder, sheet=sheet)
    paths = []
    for image, answer in zip(images, answers or [CAT] * len(images), strict=True):
        with Image.open(image) as picture:
            paths.append(drawings.add(image, picture.convert("RGB"), answer))
    drawings.finish()
    return paths


@pytest.fixture
def pictures(tmp_path):
    return [save_picture(tmp_path / "in" / f"{seed}.png", seed, (60, 40)) for seed in range(3)]


def test_objects_are_drawn_on_a_copy_that_is_large_enough(pictures, tmp_path):
    large = save_picture(tmp_path / "large.png", size=(400, 200))
    small_copy, large_copy = drawn([pictures[0], large], tmp_path / "out")
    assert small_copy == tmp_path / "out" / "0.png"
    with Image.open(small_copy) as copy, Image.open(pictures[0]) as original:
        assert copy.size == (360, 240)  # six times
        assert copy.format == "PNG"
        assert copy.resize(original.size, Image.Resampling.NEAREST).tobytes() != original.tobytes()
    with Image.open(large_copy) as copy:
        assert copy.size == (400, 200)


def test_a_label_has_one_colour_on_all_pictures(tmp_path):
    images = [tmp_path / "0.png", tmp_path / "1.png"]
    for image in images:
        Image.new("RGB", (400, 400), "white").save(image)
    _, path = drawn(images, tmp_path / "out", answers=[DOG, CAT])
    with Image.open(path) as copy:
        colours = {colour for _, colour in copy.getcolors(1 << 16)}
    first, second = (ImageColor.getrgb(colour) for colour in PALETTE[:2])
    assert second in colours
    assert first not in colours


def test_a_sheet_has_all_pictures_and_those_that_cannot_be_read(pictures, tmp_path):
    sheet = tmp_path / "out" / "sheet.html"
    drawings = Drawings(images=pictures, prompt="detect cat", folder=None, sheet=sheet)
    with Image.open(pictures[0]) as picture:
        assert drawings.add(pictures[0], picture.convert("RGB"), CAT) is None
    drawings.add_failure(Path("nowhere.png"), ImageError("nowhere.png: no such file", hint=""))
    assert not sheet.exists()
    drawings.finish()
    assert sheet.read_text().count("<img") == 1
    assert "nowhere.png: no such file" in sheet.read_text()


def test_nothing_is_drawn_of_a_video_or_where_nothing_is_wanted(pictures, tmp_path):
    drawings = Drawings(images=pictures[:1], prompt="", folder=tmp_path / "out", sheet=None)
    assert drawings.add(pictures[0], np.zeros((3, 8, 8), np.float32), CAT) is None
    assert drawn(pictures) == [None] * 3
    assert not (tmp_path / "out").exists()


def test_equal_stems_get_names_of_their_own(tmp_path):
    names = ("x/a.png", "y/a.jpg", "z/A.png")
    images = [save_picture(tmp_path / name, seed) for seed, name in enumerate(names)]
    assert [path.name for path in drawn(images, tmp_path / "out")] == ["a.png", "a-2.png", "A-3.png"]


def test_neither_an_input_nor_a_stranger_file_is_overwritten(tmp_path):
    image = save_picture(tmp_path / "a.png")
    other = tmp_path / "a-2.png"
    other.write_text("mine")
    before = image.read_bytes()
    assert drawn([image], tmp_path) == [tmp_path / "a-3.png"]
    assert (image.read_bytes(), other.read_text()) == (before, "mine")


def test_a_second_run_replaces_its_own_pictures(pictures, tmp_path):
    first = drawn(pictures, tmp_path / "out")
    assert drawn(pictures, tmp_path / "out") == first
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_a_drawn_picture_given_as_input_is_not_overwritten(pictures, tmp_path):
    (ours,) = drawn(pictures[:1], tmp_path)
    before = ours.read_bytes()
    assert drawn([ours], tmp_path) == [tmp_path / "0-2.png"]
    assert ours.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_a_work_error(pictures):
    with pytest.raises(WorkError, match="could not be written"):
        drawn(pictures[:1], Path("/proc/nowhere"))
