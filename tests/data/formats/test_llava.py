import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.small_data import picture_of, read_rows, read_sound, text_rows, write_rows
from tests.small_model import save_picture


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


def write(tmp_path: Path, *records: Any) -> Path:
    (tmp_path / "chat.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    return tmp_path


def test_each_pair_of_turns_is_a_row_without_the_tag(tmp_path: Path) -> None:
    record = {
        "id": "x",
        "image": "a.png",
        "conversations": turns("<image>\nwhat?", "a cat", "colour?", "red"),
    }
    rows = read_sound(None, write(tmp_path, record))
    assert [(row.id, row.prefix, row.suffix, row.line) for row in rows] == [
        ("x:1", "what?", "a cat", 2),
        ("x:2", "colour?", "red", 2),
    ]
    assert rows[0].images == (tmp_path / "a.png",)


def test_pictures_may_lie_in_a_folder_beside(tmp_path: Path) -> None:
    save_picture(tmp_path / "images" / "a.png")
    (row,) = read_sound(
        None, write(tmp_path, {"image": "a.png", "conversations": turns("what?\n<image>", "x")})
    )
    assert row.images == (tmp_path / "images" / "a.png",)
    assert row.prefix == "what?"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"conversations": turns("a", "b")}, "no picture is named"),
        ({"image": "a.png"}, "not pairs of turns"),
        ({"image": "a.png", "conversations": turns("a", "b", "c")}, "not pairs of turns"),
        ({"image": "a.png", "conversations": turns("a", "b")[::-1]}, "not pairs of turns"),
        ({"image": "a.png", "conversations": turns("a", " ")}, "the suffix is empty"),
        ({"image": "a.png", "conversations": [{"from": "human"}, {}]}, "no from and value"),
        ("text", "not a JSON object"),
    ],
)
def test_what_cannot_be_used_is_skipped_and_named(tmp_path: Path, record: Any, reason: str) -> None:
    good = {"image": "a.png", "conversations": turns("a", "b")}
    rows, (problem,) = read_rows(None, write(tmp_path, good, record, good))
    assert len(rows) == 2
    assert reason in problem.reason
    assert rows[0].line is not None
    assert problem.line is not None
    assert rows[1].line is not None
    assert rows[0].line < problem.line < rows[1].line


def test_a_list_of_something_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"image_id": 1}]')
    save_picture(tmp_path / "b.png")
    with pytest.raises(Exception, match="no format known"):
        read_rows(None, tmp_path)


def test_what_is_written_has_a_tag_for_each_picture(tmp_path: Path) -> None:
    first, second = text_rows(tmp_path / "pictures", [("what?", "a"), ("what?", "b")])
    both = type(first)(images=first.images + second.images, prefix="what?", suffix="a", id="7", file=tmp_path)
    write_rows("llava", tmp_path / "new", [both, first])
    record, _ = json.loads((tmp_path / "new" / "train.json").read_text())
    assert record["conversations"] == turns("<image>\n<image>\nwhat?", "a")
    assert record["image"] == ["images/0.png", "images/1.png"]
    again = read_sound("llava", tmp_path / "new")[0]
    assert (again.id, again.prefix) == ("7", "what?")
    assert [picture_of(again, number) for number in range(2)] == [picture_of(first), picture_of(second)]
