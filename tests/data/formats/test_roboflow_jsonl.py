import json
from pathlib import Path

import pytest

from paligemma2.data.formats import roboflow_jsonl
from paligemma2.data.sources import DataSource, read_source
from tests.data.small_data import picture_of, read_rows, read_sound, text_rows, write_rows
from tests.small_model import save_picture

LINE = json.dumps(
    {"image": "a.png", "prefix": "detect cat", "suffix": "<loc0000><loc0000><loc0001><loc0001> cat"}
)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("_annotations.train.jsonl", "train"),
        ("_annotations.valid.jsonl", "valid"),
        ("dataset/_annotations.test.jsonl", "test"),
        ("train.jsonl", "train"),
        ("valid/annotations.jsonl", "valid"),
    ],
)
def test_every_layout_is_found_with_split_and_pictures_beside_it(
    tmp_path: Path, name: str, split: str
) -> None:
    path = tmp_path / name
    save_picture(path.with_name("a.png"))
    path.write_text(LINE + "\n")
    (row,) = read_sound(None, tmp_path)
    assert (row.split, row.images, row.file, row.line) == (split, (path.with_name("a.png"),), path, 1)


def test_a_file_may_be_named_itself(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(LINE)
    (tmp_path / "train.jsonl").write_text(LINE * 0)
    assert len(read_sound(None, tmp_path / "other.jsonl")) == 1


def test_metadata_of_an_imagefolder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(LINE)
    assert not roboflow_jsonl.is_here(tmp_path)
    assert not roboflow_jsonl.is_here(tmp_path / "metadata.jsonl")


def test_bad_lines_are_reported_and_the_others_read(tmp_path: Path) -> None:
    bad = ['{"image": 3, "suffix": "x"}', "{", '{"image": "a.png", "suffix": ""}', '"text"']
    (tmp_path / "train.jsonl").write_text("\n".join([LINE, *bad, LINE]))
    rows, problems = read_rows("jsonl", tmp_path)
    assert [row.line for row in rows] == [1, 6]
    assert [problem.line for problem in problems] == [2, 3, 4, 5]
    assert all(problem.is_skipped for problem in problems)


def test_what_is_written_can_be_trained_on(tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "pictures", [("caption en", "a"), ("caption en", "b"), ("caption en", "c")])
    write_rows("jsonl", tmp_path / "new", rows)
    (example,) = read_source(DataSource(path=tmp_path / "new")).train
    assert (example.prefix, example.suffix) == ("caption en", "a")
    assert Path(str(example.images[0])).read_bytes() == picture_of(rows[0])


def test_several_pictures_are_a_list(tmp_path: Path) -> None:
    (first, second) = text_rows(tmp_path / "pictures", [("ask", "a"), ("ask", "b")])
    both = type(first)(images=first.images + second.images, prefix="ask", suffix="a", file=tmp_path)
    write_rows("jsonl", tmp_path / "new", [both])
    (again,) = read_sound("jsonl", tmp_path / "new")
    assert [picture_of(again, number) for number in range(2)] == [picture_of(first), picture_of(second)]


def test_real_captions_come_through_every_format_of_text(shared: Path, tmp_path: Path) -> None:
    sample = json.loads((shared / "samples" / "vsr_random.json").read_text())["rows"]
    lines = []
    for seed, real in enumerate(sample):
        save_picture(tmp_path / "real" / real["image"].replace(".jpg", ".png"), seed)
        name = real["image"].replace(".jpg", ".png")
        lines.append(
            json.dumps(
                {"image": name, "prompt": f"answer en {real['caption']}", "answer": str(real["label"])}
            )
        )
    (tmp_path / "real" / "train.jsonl").write_text("\n".join(lines))
    rows = read_sound("jsonl", tmp_path / "real")
    assert [row.suffix for row in rows] == [str(real["label"]) for real in sample]
    for name in ("imagefolder", "llava", "csv", "parquet", "tar"):
        write_rows(name, tmp_path / name, rows)
        again = read_sound(None, tmp_path / name)
        assert [(row.prefix, row.suffix) for row in again] == [(row.prefix, row.suffix) for row in rows]
