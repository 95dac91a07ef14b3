import shutil
from pathlib import Path

import pytest
from PIL import Image

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.rico import ScreenSummaries, WidgetCaptions
from paligemma2.errors import DataError
from paligemma2.types import EditedPicture
from tests.data.readers.small_rows import FIXTURES, fixture, folder_of, read

TEST = WidgetCaptions(split="split/test.txt")


def test_the_summaries_of_a_screen() -> None:
    first, second = read(ScreenSummaries(split="split/dev_screens.txt"), fixture("screen2words"))
    assert (first.id, first.pictures) == ("50083", ("50083.jpg",))
    assert first.fields["captions"] == [
        "page of a music app",
        "screen showing a list, of songs",
        'display of "favourites"',
    ]
    assert second.id == "47487"


def test_a_screen_without_summaries_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"split/a.txt": "7\n", "screen_summaries.csv": "screenId,summary\n8,a\n"})
    with pytest.raises(DataError, match=r"a\.txt, row 1, cannot be used: no field 7"):
        read(ScreenSummaries(split="split/a.txt"), folder)


def test_a_part_of_a_screen_is_outlined() -> None:
    first, second = read(TEST, fixture("widgetcap"))
    assert (first.id, first.unit) == ("1021_0.1.0", "1021")
    assert first.fields["captions"] == ["play the song", "start music", "play button"]
    assert second.fields["captions"] == ["go back", "tool bar, with the title"]
    picture = first.pictures[0]
    assert isinstance(picture, EditedPicture)
    assert picture.outline is not None
    # Bounds [72, 400, 720, 800] of a canvas 2560 high; the picture is 18 wide and 32 high.
    assert picture.outline.pixels(32, 18) == pytest.approx((5.0, 0.9, 10.0, 9.0))


def test_bounds_go_by_the_height_of_the_picture(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "widgetcap", tmp_path / "a")
    Image.new("RGB", (40, 32)).save(tmp_path / "a/combined/1021.jpg")
    picture = read(TEST, DataFolder(tmp_path / "a"))[0].pictures[0]
    assert isinstance(picture, EditedPicture)
    assert picture.outline is not None
    assert picture.outline.pixels(32, 40) == pytest.approx((5.0, 0.9, 10.0, 9.0))


def test_missing_pictures_keep_their_names(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "widgetcap", tmp_path / "a")
    (tmp_path / "a/combined/1021.jpg").unlink()
    assert read(TEST, DataFolder(tmp_path / "a"))[0].pictures == ("1021.jpg",)


@pytest.mark.parametrize(
    "hierarchy", ["{}", '{"activity": {"root": {"children": []}}}', '{"activity": null}', "{"]
)
def test_hierarchies_without_the_part_are_told(tmp_path: Path, hierarchy: str) -> None:
    shutil.copytree(FIXTURES / "widgetcap", tmp_path / "a")
    (tmp_path / "a/combined/1021.json").write_text(hierarchy)
    with pytest.raises(DataError, match=r"1021\.json"):
        read(TEST, DataFolder(tmp_path / "a"))


def test_damaged_screenshots_are_told(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "widgetcap", tmp_path / "a")
    (tmp_path / "a/combined/1021.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read(TEST, DataFolder(tmp_path / "a"))
