import threading
import zipfile
import zlib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from paligemma2.errors import ImageError
from paligemma2.processing.stored import read_cell, read_part
from paligemma2.types import FilePart, TableCell

DATA = bytes(range(256)) * 20


def deflated(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return machine.compress(data) + machine.flush()


def test_a_deflated_part_is_what_was_compressed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", DATA)
        entry = archive.getinfo("a")
    offset = (tmp_path / "a.zip").read_bytes().index(deflated(DATA)[:20])
    assert read_part(FilePart(tmp_path / "a.zip", offset, entry.compress_size, True), 10**6) == DATA


def test_a_small_part_that_grows_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    bomb = deflated(bytes(10**6))
    (tmp_path / "a").write_bytes(bomb)
    with pytest.raises(ImageError, match="the limit is 5000"):
        read_part(FilePart(tmp_path / "a", 0, len(bomb), True), 5000)


def test_damaged_parts_are_told(tmp_path: Path) -> None:
    data = deflated(DATA)
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ImageError, match="cut short"):
        read_part(FilePart(tmp_path / "a", 0, len(data) - 9, True), 10**6)
    with pytest.raises(ImageError, match="damaged"):
        read_part(FilePart(tmp_path / "a", 3, len(data) - 3, True), 10**6)
    with pytest.raises(ImageError, match="ends before"):
        read_part(FilePart(tmp_path / "a", 0, len(data) + 1), 10**6)


def write_table(path: Path) -> None:
    rows = [{"image": {"bytes": f"picture {n}".encode(), "path": f"{n}.png"}, "n": n} for n in range(7)]
    rows[5]["image"] = None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)


def test_cells_of_every_group_of_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet")
    for row in (0, 2, 3, 6, 1):
        cell = TableCell(tmp_path / "a.parquet", row, "image.bytes")
        assert read_cell(cell, 100) == f"picture {row}".encode()


def test_cells_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path)
    for row, column, reason in (
        (5, "image.bytes", "there is no picture"),
        (7, "image.bytes", "the file has 7 rows"),
        (0, "n", "there is no picture"),
        (0, "photo", "cannot be read"),
    ):
        with pytest.raises(ImageError, match=reason):
            read_cell(TableCell(path, row, column), 100)
    with pytest.raises(ImageError, match="the limit is 3"):
        read_cell(TableCell(path, 0, "image.bytes"), 3)
    (tmp_path / "b.parquet").write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"b\.parquet, row 0"):
        read_cell(TableCell(tmp_path / "b.parquet", 0, "image.bytes"), 100)


def test_threads_keep_groups_of_their_own(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet")
    found: list[bytes] = []

    def read(row: int) -> None:
        for _ in range(20):
            found.append(read_cell(TableCell(tmp_path / "a.parquet", row, "image.bytes"), 100))
            assert found[-1]

    threads = [threading.Thread(target=read, args=(row,)) for row in (0, 4, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {text: found.count(text) for text in found} == {f"picture {row}".encode(): 20 for row in (0, 4, 6)}
