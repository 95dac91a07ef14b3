from pathlib import Path

from tests.data.small_data import read_rows, read_sound


def write(tmp_path: Path, text: str | bytes, name: str = "train.csv") -> Path:
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path


def test_quotes_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    text = 'image,prefix,suffix\r\na.png,"say ""it"", now","one\ntwo"\r\n'
    (row,) = read_sound(None, write(tmp_path, text))
    assert (row.prefix, row.suffix) == ('say "it", now', "one\ntwo")
    assert row.images == (tmp_path / "a.png",)


def test_a_record_is_named_by_the_line_it_ends_in(tmp_path: Path) -> None:
    text = 'image,suffix\na.png,"one\ntwo"\n\nb.png,x\n'
    assert [row.line for row in read_sound("csv", write(tmp_path, text))] == [3, 5]


def test_a_mark_at_the_begin_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert len(read_sound("csv", write(tmp_path, "\ufeffimage,suffix\na.png,x\n"))) == 1


def test_a_column_can_name_the_split(tmp_path: Path) -> None:
    text = "image,suffix,split\na.png,x,val\nb.png,y,train\nc.png,z,\n"
    assert [row.split for row in read_sound("csv", write(tmp_path, text, "rows.csv"))] == [
        "valid",
        "train",
        "train",
    ]


def test_a_record_with_too_many_fields_or_bad_bytes_costs_itself_only(tmp_path: Path) -> None:
    text = "image,suffix\na.png,x\nb.png,one,two\nc.png\nd.png,Müll\ne.png,y\n".encode("latin-1")
    rows, problems = read_rows("csv", write(tmp_path, text))
    assert [row.suffix for row in rows] == ["x", "y"]
    assert [(problem.line, problem.reason) for problem in problems] == [
        (3, "a record has too many or too few fields"),
        (4, "a record has too many or too few fields"),
        (5, "the line is not UTF-8"),
    ]


def test_a_quote_that_never_ends_is_reported_and_swallows_nothing_in_silence(tmp_path: Path) -> None:
    rows, problems = read_rows("csv", write(tmp_path, 'image,suffix\na.png,x\nb.png,"y\nc.png,z\n'))
    assert [row.suffix for row in rows] == ["x"]
    assert [problem.reason for problem in problems] == ["not CSV"]


def test_a_cell_that_is_too_large_costs_itself_only(tmp_path: Path) -> None:
    rows, problems = read_rows("csv", write(tmp_path, f"image,suffix\na.png,{'x' * 200_000}\nb.png,y\n"))
    assert [row.suffix for row in rows] == ["y"]
    assert [problem.reason for problem in problems] == ["not CSV"]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read_sound("csv", write(tmp_path, "")) == []
