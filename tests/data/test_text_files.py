import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.data import text_files
from paligemma2.data.rows import RowProblem
from paligemma2.data.text_files import (
    TextFiles,
    json_array,
    json_file,
    json_lines,
    numbered_lines,
)
from paligemma2.errors import DataError


def lines_of(tmp_path: Path, data: bytes) -> tuple[list[tuple[int, str]], list[RowProblem]]:
    path = tmp_path / "file.txt"
    path.write_bytes(data)
    problems: list[RowProblem] = []
    return list(numbered_lines(path, problems.append)), problems


def test_lines_keep_their_numbers_where_empty_ones_are_left_out(tmp_path: Path) -> None:
    assert lines_of(tmp_path, b"a\n\n  \nb") == ([(1, "a"), (4, "b")], [])


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    assert lines_of(tmp_path, "a\u2028b\x0cc\n".encode())[0] == [(1, "a\u2028b\x0cc")]


def test_marks_and_ends_of_windows_are_removed_and_reported_once(tmp_path: Path) -> None:
    lines, problems = lines_of(tmp_path, b"\xef\xbb\xbfa\r\nb\r\n")
    assert lines == [(1, "a"), (2, "b")]
    assert [problem.line for problem in problems] == [1, 1]
    assert "byte order mark" in problems[0].reason
    assert "CRLF" in problems[1].reason
    assert not any(problem.is_skipped for problem in problems)


def test_a_line_that_is_not_utf8_costs_itself_only(tmp_path: Path) -> None:
    lines, (problem,) = lines_of(tmp_path, "a\nMüll\nb\n".encode("latin-1"))
    assert lines == [(1, "a"), (3, "b")]
    assert (problem.line, problem.detail, problem.is_skipped) == (2, "byte 2 is 0xfc", True)


def test_a_line_without_end_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 10)
    lines, (problem,) = lines_of(tmp_path, b"a\n" + b"x" * 35 + b"\nb\n")
    assert lines == [(1, "a"), (3, "b")]
    assert problem.line == 2
    assert "too long" in problem.reason


def test_json_lines_that_hold_no_object_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a":\n[1]\n' + "[" * 100_000 + '\n{"a": 2}\n')
    problems: list[RowProblem] = []
    assert list(json_lines(path, problems.append)) == [(1, {"a": 1}), (5, {"a": 2})]
    assert [(problem.line, problem.reason) for problem in problems] == [
        (2, "not JSON"),
        (3, "not a JSON object"),
        (4, "not JSON"),
    ]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=2), max_size=3
    ),
    st.sampled_from([None, 0, 1]),
    st.booleans(),
    st.integers(1, 40),
)
def test_a_list_in_a_file_is_read_as_json_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    items: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,
    chunk: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "list.json"
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode("utf-8", "surrogatepass") if ascii_only else text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_CHUNK", chunk)  # every sign and item is cut at every place
        found = list(json_array(path, lambda problem: None))
    assert [item for _, item in found] == items


def test_items_of_a_list_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('[\n{"a": 1},\n\n{"a":\n2}, 3, {"b": 1}\n]\n')
    problems: list[RowProblem] = []
    assert list(json_array(path, problems.append)) == [(2, {"a": 1}), (4, {"a": 2}), (5, {"b": 1})]
    assert [(problem.line, problem.reason) for problem in problems] == [(5, "not a JSON object")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": 1}', "line 1: .* does not start with"),
        (b'[{"a": 1},\n{"a"', "line 2: .*Expecting"),
        (b'[{"a": 1}\n', "ends too early"),
        (b"", "ends too early"),
        (b'[\n{"a": "\xff"}]', "0xff is not UTF-8"),
    ],
)
def test_a_list_that_is_broken_is_an_error_with_its_line(tmp_path: Path, text: bytes, why: str) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(text)
    with pytest.raises(DataError, match=why):
        list(json_array(path, lambda problem: None))


def test_a_whole_file_of_json_may_begin_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert json_file(path) == {}
    path.write_bytes(b"{")
    with pytest.raises(DataError, match=r"a\.json is not JSON"):
        json_file(path)


def test_a_file_that_is_not_there_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone cannot be read"):
        list(numbered_lines(tmp_path / "gone", lambda problem: None))


def test_text_files_grow_together(tmp_path: Path) -> None:
    files, a, b = TextFiles(), tmp_path / "deep" / "a", tmp_path / "b"
    for number in range(2):
        files.write(a, f"a{number}\r\n", first="first ")
        files.write(b, f"b{number}")
    assert a in files
    files.close(last="!")
    assert a.read_bytes() == b"first a0\r\na1\r\n!"
    assert b.read_bytes() == b"b0b1!"
