import io
from pathlib import Path

import pytest
from PIL import Image

from paligemma2.data.doctor.album import Album, AlbumSummary
from paligemma2.data.doctor.findings import Finding, Findings, Place
from paligemma2.data.doctor.pictures import examine_picture
from paligemma2.data.rows import DataRow
from paligemma2.data.synthetic.world import scene_sample
from tests.data.doctor.doctor_rows import row


def picture(index: int, side: int = 112) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene_sample("train", index, size=112).images[0]).resize((side, side)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for index, path in enumerate(paths):
        path.write_bytes(picture(index))
    return paths


def examined(*rows: DataRow) -> tuple[list[Finding], AlbumSummary]:
    album, findings = Album(), Findings(limit=0)
    for checked in rows:
        for number, source in album.add(checked, Place(checked.file, checked.line)):
            album.learn(number, examine_picture(source), findings)
    summary = album.report(findings)
    return list(findings.kept), summary


def rules(*rows: DataRow) -> list[str]:
    return [finding.rule for finding in examined(*rows)[0]]


def test_each_picture_is_given_once(pictures: list[Path]) -> None:
    album = Album()
    rows = [
        row(images=(pictures[0], pictures[1])),
        row(images=(pictures[1],)),
        row(images=(b"x", b"y", b"x")),
    ]
    new = [album.add(checked, Place(checked.file)) for checked in rows]
    assert new == [[(0, pictures[0]), (1, pictures[1])], [], [(2, b"x"), (3, b"y")]]


def test_sound_splits_have_no_findings(pictures: list[Path]) -> None:
    rows = [
        row(images=(path,), split=split)
        for path, split in zip(pictures, ["train", "train", "valid", "test"], strict=True)
    ]
    found, summary = examined(*rows)
    assert found == []
    assert (summary.pictures, summary.unreadable, summary.cut) == (4, 0, 0)
    assert summary.compared + summary.flat >= 2


def test_a_missing_picture_is_told_once_with_its_rows(tmp_path: Path) -> None:
    found, summary = examined(*(row(images=(tmp_path / "no.png",), line=line) for line in (4, 7, 9)))
    assert [(finding.rule, str(finding.place)) for finding in found] == [("missing-image", "train.jsonl:4")]
    assert "3 rows use it" in found[0].message
    assert (summary.pictures, summary.unreadable) == (1, 1)


def test_a_file_used_by_train_and_eval_is_a_leak(pictures: list[Path]) -> None:
    rows = [
        row(images=(pictures[0],), split=split, line=line) for line, split in enumerate(("valid", "train"), 1)
    ]
    found, _ = examined(*rows)
    assert [(finding.rule, str(finding.place)) for finding in found] == [("leaked-image", "train.jsonl:1")]
    assert "train.jsonl:2" in found[0].message


def test_equal_bytes_under_other_names_are_a_leak(pictures: list[Path]) -> None:
    copy = pictures[0].with_name("copy.png")
    copy.write_bytes(pictures[0].read_bytes())
    for ours, theirs in [(pictures[0], copy), (picture(0), copy), (pictures[0], picture(0))]:
        found = rules(row(images=(ours,)), row(images=(theirs,), split="test"))
        assert found == ["leaked-image"]


def test_a_picture_of_another_size_is_a_near_duplicate() -> None:
    found, summary = examined(
        row(images=(picture(0),)), row(images=(picture(0, side=90),), split="test", line=8)
    )
    assert [(finding.rule, str(finding.place)) for finding in found] == [("near-duplicate", "train.jsonl:8")]
    assert summary.compared == 1


def test_near_duplicates_inside_one_split_are_no_leak() -> None:
    for split in ("train", "test"):
        assert (
            rules(row(images=(picture(0),), split=split), row(images=(picture(0, side=90),), split=split))
            == []
        )


def test_flat_pictures_are_counted_and_not_compared() -> None:
    files = []
    for colour in ("red", "white"):
        file = io.BytesIO()
        Image.new("RGB", (20, 20), colour).save(file, "PNG")
        files.append(file.getvalue())
    found, summary = examined(row(images=(files[0],)), row(images=(files[1],), split="test"))
    assert (found, summary.flat, summary.compared) == ([], 2, 0)


def test_a_stated_size_must_be_that_of_the_picture() -> None:
    assert rules(row(images=(picture(0, side=90),), size=(90, 90))) == []
    found, _ = examined(row(images=(picture(0, side=90),), size=(90, 80)))
    assert [finding.rule for finding in found] == ["size-mismatch"]
    assert "90 × 90, annotated as 80 × 90" in found[0].message


def test_colours_and_turning_are_noted() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (30, 20)).save(file, "JPEG", exif=exif)
    assert rules(row(images=(file.getvalue(),))) == ["image-mode", "turned-image"]
