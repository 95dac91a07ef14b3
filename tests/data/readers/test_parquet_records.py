from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.errors import DataError
from paligemma2.types import TableCell


def row(number: int, **changes: Any) -> dict[str, Any]:
    picture = {"bytes": b"p%d" % number, "path": None}
    return {"image": picture, "n": number, "answers": ["a", str(number)], "kind": number % 2} | changes


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    return path


def test_rows_of_all_files_in_order(tmp_path: Path) -> None:
    first = write(tmp_path / "data/val-0.parquet", [row(0), row(1), row(2)])
    second = write(tmp_path / "data/val-1.parquet", [row(3)])
    write(tmp_path / "data/test-0.parquet", [row(9)])
    found = list(ParquetRecords(files="val-*.parquet", id="n").read(DataFolder(tmp_path)))
    assert [each.id for each in found] == ["0", "1", "2", "3"]
    assert found[2].pictures == (TableCell(first, 2, "image.bytes"),)
    assert found[3].pictures == (TableCell(second, 0, "image.bytes"),)
    assert found[1].fields == {"n": 1, "answers": ["a", "1"], "kind": 1}


def test_some_rows_with_options(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [row(n) for n in range(4)])
    reader = ParquetRecords(files="a.parquet", where={"kind": 1}, choices="answers")
    first, second = reader.read(DataFolder(tmp_path))
    assert (first.id, second.id) == ("0", "1")
    assert second.fields["options"] == "a \t 3"


def test_a_row_without_picture_names_its_place(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [row(0), row(1, image=None)])
    _, second = ParquetRecords(files="a.parquet").read(DataFolder(tmp_path))
    assert second.pictures == ("a.parquet, row 1",)


def test_missing_files_and_columns_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [row(0)])
    folder = DataFolder(tmp_path)
    with pytest.raises(DataError, match=r"b\.parquet is not there"):
        list(ParquetRecords(files="b.parquet").read(folder))
    for reader in (ParquetRecords(files="a.parquet", id="x"), ParquetRecords(files="a.parquet", image="x")):
        with pytest.raises(DataError, match=r"a\.parquet, row 0, cannot be used: no field 'x'"):
            list(reader.read(folder))
