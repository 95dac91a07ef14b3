from collections.abc import Iterator
from pathlib import Path

import pytest

from paligemma2.data.doctor.doctor import DataReport, Doctor
from paligemma2.data.rows import DataRow, RowProblem
from tests.data.doctor.doctor_rows import BOX, FILE, annotation, row, tiny_processor
from tests.small_model import save_picture


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "a.png")


def examined(*rows: DataRow) -> DataReport:
    return Doctor(tiny_processor()).examine(rows, num_workers=0)


def test_a_sound_data_set_has_no_findings(picture: Path, tmp_path: Path) -> None:
    other = save_picture(tmp_path / "b.png", seed=5)
    report = examined(
        row("detect cat", f"{BOX} cat", images=(picture,), line=1, row_id="1"),
        row("caption en", "a cat", images=(picture,), line=2, row_id="2"),
        row("detect cat", f"{BOX} cat", images=(other,), split="valid", line=3, row_id="1"),
    )
    assert (dict(report.counts), report.findings) == ({}, ())
    assert (report.num_rows, report.album.pictures, report.splits["train"].objects) == (3, 1 + 1, 1)
    assert report.lengths is not None
    assert len(report.examples) == 3


def test_findings_name_the_row(picture: Path) -> None:
    report = examined(
        row(images=(picture,), line=3),
        row("detect cat", f"{BOX[:-9]} cat", images=(picture,), line=4),
        row("ocr", "word " * 2000, images=(picture,), line=5),
        row("ocr", "", images=(picture,), line=6),
        row("ocr", "x", images=(picture.with_name("no.png"),), line=7),
    )
    found = {finding.rule: str(finding.place) for finding in report.findings}
    assert found["missing-image"] == "train.jsonl:7"
    assert found["empty-suffix"] == "train.jsonl:6"
    assert found["malformed-answer"] == "train.jsonl:4"
    assert found["cannot-encode"] == "train.jsonl:5"
    assert report.count("error") == 4
    assert [str(example.place) for example in report.examples] == [f"train.jsonl:{i}" for i in (3, 4, 5)]


def test_the_same_row_twice_is_a_duplicate_in_its_split_only(picture: Path) -> None:
    def found(second: DataRow) -> list[str]:
        first = row(images=(picture,), line=1, row_id="7", objects=(annotation(0, 0, 1, 1),))
        return [finding.rule for finding in examined(first, second).findings]

    same = {"images": (picture,), "line": 2}
    assert found(row(**same, row_id="8", objects=(annotation(0, 0, 1, 1),))) == ["duplicate-row"]
    assert found(row(**same, row_id="7", objects=(annotation(0, 0, 1, 1),))) == [
        "duplicate-row",
        "duplicate-id",
    ]
    assert found(row("caption en", **same, row_id="7")) == ["duplicate-id"]
    assert found(row(**same, row_id="8", objects=(annotation(0, 0, 0.5, 1),))) == []
    assert (
        found(row(**same, row_id="7", split="test", objects=(annotation(0, 0, 1, 1),)))[0] == "leaked-image"
    )
    data = picture.read_bytes()
    assert "duplicate-row" in [
        finding.rule
        for finding in examined(row(images=(data,), line=1), row(images=(data,), line=2)).findings
    ]


def test_rows_without_a_name_are_no_duplicates(picture: Path) -> None:
    report = examined(row(suffix="a", images=(picture,), line=1), row(suffix="b", images=(picture,), line=2))
    assert report.findings == ()


def test_what_the_reader_says_is_counted_by_its_reason() -> None:
    doctor = Doctor(tiny_processor())

    def rows() -> Iterator[DataRow]:
        for line in range(4):
            doctor.add_problem(RowProblem(file=FILE, line=line, reason="not JSON", detail=str(line)))
        doctor.add_problem(RowProblem(file=FILE, line=9, reason="CRLF", is_skipped=False))
        doctor.add_problem(
            RowProblem(file=FILE, line=9, reason="a box has no area and is left out", is_skipped=False)
        )
        yield row(images=(b"no picture",))

    report = doctor.examine(rows(), num_workers=0)
    assert dict(report.skipped) == {"not JSON": 4}
    assert dict(report.corrected) == {"CRLF": 1, "a box has no area and is left out": 1}
    assert dict(report.counts) == {"skipped-row": 4, "corrupt-image": 1, "bad-box": 1, "corrected": 1}
    assert report.findings[2].message == "not JSON (2)"


def test_labels_come_from_the_annotation_or_from_the_answer(picture: Path) -> None:
    report = examined(
        row("detect cat", f"{BOX} cat", images=(picture,), objects=(annotation(0, 0, 1, 1),), line=1),
        row("detect dog", f"{BOX} dog ; {BOX} dog", images=(picture,), line=2),
    )
    assert dict(report.splits["train"].labels) == {"dog": 2, "cat": 1}


def test_progress_counts_rows(picture: Path) -> None:
    seen: list[int] = []
    Doctor(tiny_processor()).examine([row(images=(picture,))] * 3, num_workers=0, on_row=seen.append)
    assert seen == [1, 2, 3]
