from pathlib import Path

import pytest
from PIL import Image

from paligemma2.data.pictures import (
    PictureFolder,
    only_picture,
    picture_bytes,
    picture_identity,
    picture_num_bytes,
    picture_size,
    row_size,
)
from paligemma2.data.rows import DataRow, UnusableRow
from paligemma2.types import EditedPicture, FilePart, TableCell
from tests.small_model import save_picture


def row(*images: Path | bytes, id: str = "") -> DataRow:
    return DataRow(images=images, file=Path("file"), id=id)


def test_the_size_of_a_picture_is_height_and_width(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.png", size=(60, 40))
    assert picture_size(path) == picture_size(path.read_bytes()) == (40, 60)


@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 60)), (3, (40, 60)), (6, (60, 40))])
def test_a_picture_lying_on_its_side_is_measured_upright(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg") == size


def test_a_size_that_the_format_states_is_taken_without_a_picture(tmp_path: Path) -> None:
    stated = DataRow(images=(tmp_path / "gone.png",), height=3, width=4, file=tmp_path)
    assert row_size(stated) == (3, 4)
    with pytest.raises(UnusableRow, match="the picture is missing"):
        row_size(row(tmp_path / "gone.png"))


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UnusableRow, match=r"a\.png"):
        picture_size(tmp_path / "a.png")
    with pytest.raises(UnusableRow, match="7 bytes"):
        picture_bytes(b"nothing")


def test_bytes_of_a_picture_come_with_the_suffix_of_its_kind(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.PNG")
    assert picture_bytes(path) == picture_bytes(path.read_bytes()) == (path.read_bytes(), ".png")


def test_a_picture_is_copied_once(tmp_path: Path) -> None:
    path, pictures = save_picture(tmp_path / "a.png"), PictureFolder()
    assert [pictures.add(tmp_path / "new", row(path)) for _ in range(2)] == ["a.png", "a.png"]
    assert [file.read_bytes() for file in (tmp_path / "new").iterdir()] == [path.read_bytes()]


def test_pictures_with_one_stem_get_different_ones(tmp_path: Path) -> None:
    names = ("x/a.png", "y/a.png", "z/A.jpg", "z/a-2.png")
    paths, pictures = (
        [save_picture(tmp_path / name, seed) for seed, name in enumerate(names)],
        PictureFolder(),
    )
    copies = [pictures.add(tmp_path / "new", row(path)) for path in paths]
    assert len({Path(copy).stem.lower() for copy in copies}) == 4
    for copy, path in zip(copies, paths, strict=True):
        assert (tmp_path / "new" / copy).read_bytes() == path.read_bytes()
        assert Path(copy).suffix == path.suffix


def test_bytes_are_named_after_their_row_and_stay_in_the_folder(tmp_path: Path) -> None:
    data, pictures = save_picture(tmp_path / "a.png").read_bytes(), PictureFolder()
    assert pictures.add(tmp_path / "new", row(data, id="../b/c.1")) == "---b-c-1.png"
    assert pictures.add(tmp_path / "new", row(data, id="other")) == "---b-c-1.png"
    assert pictures.add(tmp_path / "else", row(data)) == "picture.png"


def test_a_folder_in_place_of_a_picture_costs_the_row_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UnusableRow, match="the picture cannot be read"):
        PictureFolder().add(tmp_path / "new", row(tmp_path / "a.png"))


@pytest.mark.parametrize("count", [0, 2])
def test_a_row_must_have_one_picture_where_the_format_has_one(count: int) -> None:
    with pytest.raises(UnusableRow, match=f"this row has {count}"):
        only_picture(row(*[Path("a.png")] * count))


def test_the_size_and_the_identity_of_every_kind_of_picture(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(20))
    part, cell = FilePart(tmp_path / "a.bin", 3, 5), TableCell(tmp_path / "a.bin", 3, "image")
    sources = (
        b"four",
        part,
        cell,
        tmp_path / "a.bin",
        EditedPicture(source=part),
        EditedPicture(source=part, quarter_turns=1),
    )
    assert [picture_num_bytes(source) for source in sources] == [4, 5, 20, 20, 5, 5]
    assert picture_num_bytes(tmp_path / "gone") is None
    identities = [picture_identity(source) for source in sources]
    assert len(set(identities)) == len(sources)
    assert not any(str(tmp_path) in identity for identity in identities)
