import bz2
import gzip
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError
from paligemma2.processing.image import open_image


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


def picture(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(data, "PNG")
    return data.getvalue()


def colour_of(folder: DataFolder, name: str) -> str | None:
    source = pickle.loads(pickle.dumps(folder.image(name)))
    if source is None:
        return None
    pixel = open_image(source).getpixel((0, 0))
    return {(255, 0, 0): "red", (0, 128, 0): "green", (0, 0, 255): "blue"}[pixel]  # type: ignore[index]


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as shard:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("val/1.png", picture("red"))
        archive.writestr("val/questions.json", "[1]", zipfile.ZIP_DEFLATED)
        archive.writestr("val/2.png", picture("green"), zipfile.ZIP_DEFLATED)
    write_tar(tmp_path / "b.tar", {"./x/3.png": picture("blue"), "x/notes.txt": b"notes"})
    rows = [{"image": {"bytes": picture("green"), "path": "4.png"}}, {"image": None}]
    rows += [{"image": {"bytes": picture("red"), "path": f"deep/{n}.png"}} for n in range(5, 9)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "c.parquet", row_group_size=2)
    return tmp_path


def test_pictures_are_read_where_they_lie_in_archives_and_tables(packed: Path) -> None:
    before = {path: path.stat().st_size for path in packed.rglob("*")}
    folder = DataFolder(packed)
    wanted = {"1.png": "red", "val/2": "green", "3": "blue", "x/3.png": "blue", "4": "green", "8.png": "red"}
    assert {name: colour_of(folder, name) for name in wanted} == wanted
    assert folder.image("9.png") is None
    assert before == {path: path.stat().st_size for path in packed.rglob("*")}


def test_a_damaged_table_is_not_looked_at_where_pictures_lie_elsewhere(packed: Path) -> None:
    (packed / "c.parquet").write_bytes(b"PAR1 no more")
    folder = DataFolder(packed)
    assert colour_of(folder, "1.png") == "red"
    with pytest.raises(DataError, match=r"c\.parquet"):
        folder.image("4.png")


@pytest.mark.parametrize("name", ["a.zip", "b.tar"])
def test_damaged_archives_are_named(packed: Path, name: str) -> None:
    path = packed / name
    path.write_bytes(path.read_bytes()[: 300 if name == "a.zip" else 560])
    with pytest.raises(DataError, match=f"{name} is damaged"):
        DataFolder(packed).image("1.png")


def test_a_compressed_tar_file_is_a_notice(tmp_path: Path) -> None:
    write_tar(tmp_path / "images.tgz", {"1.png": picture("red")}, "w:gz")
    assert DataFolder(tmp_path).image("1.png") is None
    assert "gunzip images.tgz" in DataFolder(tmp_path).notice


def test_files_inside_of_archives_and_compressed_files_can_be_opened(packed: Path) -> None:
    (packed / "l.json.bz2").write_bytes(bz2.compress(b"lines"))
    (packed / "m.json.gz").write_bytes(gzip.compress(b"more"))
    folder = DataFolder(packed)
    for name, content in (
        ("questions.json", b"[1]"),
        ("x/notes.txt", b"notes"),
        ("l.json", b"lines"),
        ("m.json", b"more"),
    ):
        with folder.open(name) as file:
            assert file.read() == content
    with pytest.raises(DataError, match=r"none\.json is not there"):
        folder.open("none.json")
    assert folder.names("val/*.json") == ["val/questions.json"]


def test_folders_tell_pictures_of_one_name_apart(tmp_path: Path) -> None:
    for number, colour in enumerate(("red", "green", "blue")):
        (tmp_path / f"test/{number}").mkdir(parents=True)
        (tmp_path / f"test/{number}/image.png").write_bytes(picture(colour))
    folder = DataFolder(tmp_path)
    assert colour_of(folder, "test/1/image.png") == "green"
    assert folder.image("test/3/image.png") is None
    assert folder.image("image.png") == tmp_path / "test/0/image.png"


def test_a_slash_asks_for_the_very_folders(root: Path) -> None:
    assert DataFolder(root).image("/images/a.png") == root / "images/a.png"
    assert DataFolder(root).image("/elsewhere/a.png") is None


def test_another_kind_of_file_is_another_picture(root: Path) -> None:
    assert DataFolder(root).image("a.jpg") is None


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/1.png").write_bytes(picture("red"))
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "pictures", tmp_path / "data/images")
    os.symlink(tmp_path / "data", tmp_path / "pictures/back")
    assert colour_of(DataFolder(tmp_path / "data"), "images/1.png") == "red"
