import zipfile
from pathlib import Path

import pytest

from paligemma2.data.readers.archives import Member, is_archive, members, open_member, place
from paligemma2.errors import DataError
from paligemma2.processing.stored import read_part

DATA = b"some content " * 50


def write_zip(path: Path, method: int) -> Member:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a.txt", DATA)
    (only,) = members(path)
    return only


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_is_found_and_read(tmp_path: Path, method: int) -> None:
    member = write_zip(tmp_path / "a.zip", method)
    assert member.name == "folder/a.txt"
    assert read_part(place(member), 10**6) == DATA
    with open_member(member) as file:
        assert file.read() == DATA


def test_an_archive_behind_other_bytes_is_read(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", zipfile.ZIP_DEFLATED)
    (tmp_path / "b.zip").write_bytes(b"a program" + (tmp_path / "a.zip").read_bytes())
    (member,) = members(tmp_path / "b.zip")
    assert read_part(place(member), 10**6) == DATA


def test_rare_compression_is_told(tmp_path: Path) -> None:
    member = write_zip(tmp_path / "a.zip", zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="compressed in a rare way"):
        place(member)
    with open_member(member) as file:
        assert file.read() == DATA


def test_a_member_that_is_not_where_it_should_be_is_told(tmp_path: Path) -> None:
    member = write_zip(tmp_path / "a.zip", zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[member.offset] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip is damaged: folder/a\.txt"):
        place(member)


def test_archives_by_name() -> None:
    names = ("a.zip", "a.TAR", "a.tar.gz", "a.tgz", "a.json")
    assert [is_archive(Path(name)) for name in names] == [True, True, False, False, False]
