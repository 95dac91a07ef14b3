import bz2
import gzip
from pathlib import Path

import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.row_files import (
    csv_rows,
    json_lines,
    plain_or_compressed,
    read_json,
    read_rows,
    row_of,
    text_lines,
)
from paligemma2.errors import DataError

LINES = '{"a": "ä"}\n\n{"a": 2}\n'


def test_lines_are_read_plain_and_compressed(tmp_path: Path) -> None:
    for name, data in (
        ("a.jsonl", LINES.encode()),
        ("b.jsonl.bz2", bz2.compress(LINES.encode())),
        ("c.jsonl.gz", gzip.compress(LINES.encode())),
    ):
        (tmp_path / name).write_bytes(data)
        path = plain_or_compressed(DataFolder(tmp_path), name[:7])
        assert list(json_lines(path)) == [(1, {"a": "ä"}), (3, {"a": 2})]
        assert list(json_lines(path, containing="2")) == [(3, {"a": 2})]
    with pytest.raises(DataError, match=r"neither d\.jsonl nor d\.jsonl\.bz2"):
        plain_or_compressed(DataFolder(tmp_path), "d.jsonl")


@pytest.mark.parametrize(
    "data", [b'{"a": 1}\n{"a"', bz2.compress(LINES.encode())[:-9], b'{"a": 1}\n\xff\xfe']
)
def test_damaged_lines_are_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / ("a.bz2" if data.startswith(b"BZ") else "a.jsonl")
    path.write_bytes(data)
    with pytest.raises(DataError, match="near line"):
        list(json_lines(path))


def test_a_list_is_the_file_or_under_a_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"data": [1]}')
    assert read_rows(path, "data") == [1]
    for key in ("", "rows"):
        with pytest.raises(DataError, match="holds no list"):
            read_rows(path, key)
    path.write_text("[1, 2]")
    assert read_rows(path) == [1, 2]
    with pytest.raises(DataError, match="holds no list under 'data'"):
        read_rows(path, "data")
    path.write_text("[1, 2")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(path)


def test_tables_and_lists(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,"a, b"\n2,c\n')
    assert list(csv_rows(tmp_path / "a.csv")) == [
        (1, {"id": "1", "text": "a, b"}),
        (2, {"id": "2", "text": "c"}),
    ]
    (tmp_path / "a.txt").write_text("7\n\n 8 \n")
    assert text_lines(tmp_path / "a.txt") == ["7", "8"]
    for read in (lambda path: list(csv_rows(path)), text_lines):
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path / "none")  # type: ignore[operator]


def test_errors_name_the_row(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"a\.json, row 3, cannot be used: no field 'x'"),
        row_of(Path("a.json"), 3),
    ):
        _ = {}["x"]
    with pytest.raises(DataError, match="first cause"), row_of(Path("a.json"), 3):
        raise DataError("first cause", hint="none")
