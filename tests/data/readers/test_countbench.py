from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from paligemma2.data.readers.countbench import CountBenchRecords
from paligemma2.errors import DataError
from paligemma2.types import TableCell
from tests.data.readers.small_files import folder_with

ROWS = [
    {"image": {"bytes": b"p", "path": None}, "text": "two dogs", "number": 2, "image_url": "http://a/1.jpg"},
    {"image": None, "text": "three", "number": 3, "image_url": "http://a/2.jpg"},
]


def test_rows_and_questions_stand_in_the_same_order(tmp_path: Path) -> None:
    path = tmp_path / "train-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    questions = [{"question": "How many dogs?"}, {"question": "How many?"}]
    folder = folder_with(tmp_path, {"countbench_paired_questions.json": questions})
    first, second = CountBenchRecords().read(folder)
    assert first.pictures == (TableCell(path, 0, "image.bytes"),)
    assert second.pictures == ("http://a/2.jpg",)
    assert first.fields == {"question": "How many dogs?", "number": 2}


def test_too_few_questions_and_a_missing_table_are_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"countbench_paired_questions.json": [{"question": "How many dogs?"}]})
    with pytest.raises(DataError, match="is not there"):
        list(CountBenchRecords().read(folder))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=r"train-0\.parquet, row 1"):
        list(CountBenchRecords().read(folder_with(tmp_path, {})))
