import gzip
from pathlib import Path

import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.row_files import csv_rows, text_lines
from paligemma2.errors import DataError


def test_tables(tmp_path: Path) -> None:
    rows = [(1, {"id": "1", "text": "ä, b"}), (2, {"id": "2", "text": 'a "c"'})]
    (tmp_path / "a.csv").write_text('id,text\n1,"ä, b"\n2,"a ""c"""\n', encoding="utf-8")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    for name in ("a.csv", "b.csv"):
        assert list(csv_rows(DataFolder(tmp_path), name)) == rows


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("7\n\n 8 \n")
    assert text_lines(DataFolder(tmp_path), "a.txt") == ["7", "8"]


def test_damaged_and_missing_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\n\xff\xfe\n")
    folder = DataFolder(tmp_path)
    for read in (lambda name: list(csv_rows(folder, name)), lambda name: text_lines(folder, name)):
        with pytest.raises(DataError, match=r"a\.txt cannot be read"):
            read("a.txt")  # type: ignore[no-untyped-call]
        with pytest.raises(DataError, match=r"none\.txt is not there"):
            read("none.txt")  # type: ignore[no-untyped-call]
