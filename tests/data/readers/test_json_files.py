from pathlib import Path

import pytest

from paligemma2.data.readers.json_files import read_json, read_lines, read_list, read_mapping, row_of
from paligemma2.errors import DataError
from tests.data.readers.small_files import folder_with


def test_what_is_no_json_names_the_file(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"a.json": "[1,"})
    with pytest.raises(DataError, match=r"a\.json cannot be read"):
        read_json(folder, "a.json")


def test_lists_and_mappings_are_what_they_should_be(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"list.json": [1], "map.json": {"rows": [2]}})
    assert read_list(folder, "list.json") == [1]
    assert read_list(folder, "map.json", "rows") == [2]
    assert read_mapping(folder, "map.json") == {"rows": [2]}
    for key in ("", "other"):
        with pytest.raises(DataError, match=r"map\.json holds no list"):
            read_list(folder, "map.json", key)
    with pytest.raises(DataError, match=r"list\.json holds no rows"):
        read_mapping(folder, "list.json")


def test_a_line_that_is_no_json_is_numbered(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"a.jsonl": '{"a": 1}\n\n{"a": 2}\n{"a"\n'})
    lines = read_lines(folder, "a.jsonl")
    assert [next(lines), next(lines)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(DataError, match=r"a\.jsonl, near line 4"):
        next(lines)


@pytest.mark.parametrize("error", [KeyError("answer"), TypeError("no list"), ValueError("no number")])
def test_errors_name_the_row(error: Exception) -> None:
    with pytest.raises(DataError, match=r"a\.json, row 7, cannot be used: no"), row_of("a.json", 7):
        raise error
