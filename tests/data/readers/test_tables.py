from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from paligemma2.data.readers.tables import open_table, picture_columns, picture_names
from paligemma2.errors import DataError
from paligemma2.types import TableCell


def test_names_beside_pictures_of_every_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [
        {"left": {"bytes": b"1", "path": "1.png"}, "n": {"x": 1}, "right": {"bytes": b"2", "path": "2.png"}},
        {"left": {"bytes": b"3", "path": None}, "n": {"x": 1}, "right": None},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with open_table(path) as file:
        assert picture_columns(file) == ["left", "right"]
    assert list(picture_names(path)) == [
        ("1.png", TableCell(path, 0, "left.bytes")),
        ("2.png", TableCell(path, 0, "right.bytes")),
    ]


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"a\.parquet is damaged"):
        list(picture_names(tmp_path / "a.parquet"))
