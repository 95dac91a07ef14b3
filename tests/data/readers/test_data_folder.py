from pathlib import Path

import pytest
from PIL import Image

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images/a.png", "val2014/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for name in ("q/one.json", "q/two.json", "p/two.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    (tmp_path / "v.mp4").write_bytes(b"")
    return tmp_path


def test_pictures_are_found_by_path_name_or_stem(root: Path) -> None:
    folder = DataFolder(root)
    for name in ("images/a.png", "a.png", "a", "elsewhere/a.png"):
        assert folder.image(name) == root / "images/a.png"
    assert folder.image("c.png") is None


def test_files_are_found_below_the_folder(root: Path) -> None:
    folder = DataFolder(root)
    assert folder.file("one.json") == root / "q/one.json"
    assert folder.file("p/two.json") == root / "p/two.json"


def test_a_file_that_is_not_there_or_not_alone_is_told(root: Path) -> None:
    with pytest.raises(DataError, match=r"three\.json is not there"):
        DataFolder(root).file("three.json")
    with pytest.raises(DataError, match=r"two\.json is there 2 times"):
        DataFolder(root).file("two.json")


def test_videos_are_found_by_stem(root: Path) -> None:
    assert DataFolder(root).video("v") == root / "v.mp4"
    assert DataFolder(root).video("w") is None


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        DataFolder(tmp_path / "no")
