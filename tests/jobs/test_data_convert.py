import json
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.checkpoint.mask_codec_files import recorded_mask_codec, save_mask_codec
from paligemma2.data.formats.outlines import mask_of
from paligemma2.data.registry import FORMATS
from paligemma2.errors import CheckpointError, DataError, InputError
from paligemma2.jobs.data_convert import DataConvertConfig, DataConvertReport, run
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig
from paligemma2.processing.parsing import parse_answer
from tests.data.small_data import object_rows, read_sound, text_rows, thing, write_rows
from tests.small_model import save_picture


def convert(source: Path, destination: Path, to: str, **options: object) -> DataConvertReport:
    return run(DataConvertConfig(source=source, destination=destination, to=to, **options))  # type: ignore[arg-type]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_rows("coco", tmp_path / "coco", object_rows(tmp_path / "pictures"))
    return tmp_path / "coco"


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.holds == "text"])
def test_objects_become_text_in_every_format_and_come_back(coco: Path, tmp_path: Path, to: str) -> None:
    report = convert(coco, tmp_path / to, to)
    assert (report.format, report.read, report.written) == ("coco", 6, {"test": 2, "train": 1, "valid": 2})
    assert report.skipped == {"the row has no objects": 1}  # the picture that shows nothing
    assert [str(problem) for problem in report.problems] == [
        "instances_train.json: the row has no objects (row 0)"
    ]
    for row in read_sound(None, tmp_path / to):
        assert row.prefix.startswith("detect ")
        assert parse_answer(row.suffix or "").problems == ()
    report = convert(tmp_path / to, tmp_path / "back", "coco")
    assert (report.format, report.written.total(), report.skipped) == (to, 5, {})
    before = sorted([one.label for one in row.objects] for row in read_sound("coco", coco) if row.objects)
    after = sorted([one.label for one in row.objects] for row in read_sound("coco", tmp_path / "back"))
    assert after == before


def test_every_picture_can_be_asked_for_all_labels(coco: Path, tmp_path: Path) -> None:
    labels = sorted({each.label for row in read_sound("coco", coco) for each in row.objects})
    convert(coco, tmp_path / "all", "jsonl", split="valid", all_labels=True)
    convert(coco, tmp_path / "present", "jsonl", split="valid")
    asked, present = (read_sound("jsonl", tmp_path / name) for name in ("all", "present"))
    assert len({row.prefix for row in present}) > 1
    assert {row.prefix for row in asked} == {f"detect {' ; '.join(labels)}"}
    assert [row.suffix for row in asked] == [row.suffix for row in present]
    with pytest.raises(InputError, match="all_labels does not go with 'segment'"):
        convert(coco, tmp_path / "masks", "jsonl", task="segment", all_labels=True)


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_objects_keep_pictures_that_show_nothing_in_formats_of_objects(
    coco: Path, tmp_path: Path, to: str
) -> None:
    report = convert(coco, tmp_path / to, to)
    assert (report.read, report.written.total(), report.skipped) == (6, 6, {})
    assert sorted(len(row.objects) for row in read_sound(to, tmp_path / to)) == list(range(6))


def test_every_row_is_counted_as_written_or_skipped(tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "mixed", [("caption en", "a"), ("answer en q?", "b"), ("caption en", "c")])
    lines = [
        {"image": Path(str(row.images[0])).name, "prefix": row.prefix, "suffix": row.suffix} for row in rows
    ]
    lines += [{"image": "gone.png", "prefix": "caption en", "suffix": "d"}, {"image": "0.png"}]
    (tmp_path / "mixed" / "train.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{")
    report = convert(tmp_path / "mixed", tmp_path / "new", "coco", task="caption")
    assert report.written == {"train": 2}
    assert report.skipped == {
        "the row is no caption": 1,
        "the picture is missing": 1,
        "the suffix is missing": 1,
        "not JSON": 1,
    }
    assert {str(problem).split(":")[0] for problem in report.problems} == {
        f"train.jsonl, line {line}" for line in (2, 4, 5, 6)
    }


def test_only_a_split_is_converted_where_one_is_named(coco: Path, tmp_path: Path) -> None:
    assert convert(coco, tmp_path / "new", "jsonl", split="val").written == {"valid": 2}
    with pytest.raises(DataError, match="no rows of split 'mini'"):
        convert(coco, tmp_path / "none", "jsonl", split="mini")


def test_masks_become_tokens_and_masks_again_and_name_their_codec(tmp_path: Path) -> None:
    rows = object_rows(tmp_path / "pictures", 4)
    large = replace(
        rows[3],
        images=(save_picture(tmp_path / "large.png", size=(300, 300)),),
        objects=(thing(30, 40, 250, 260, 300, 300),),
    )
    write_rows("coco", tmp_path / "coco", [large])
    convert(tmp_path / "coco", tmp_path / "text", "jsonl", task="segment")
    (row,) = read_sound("jsonl", tmp_path / "text")
    (found,) = parse_answer(row.suffix or "").detections
    assert (row.prefix, len(found.codes)) == ("segment cat", 16)
    assert recorded_mask_codec(tmp_path / "text") is not None
    convert(tmp_path / "text", tmp_path / "back", "coco", task="segment")
    (again,) = read_sound("coco", tmp_path / "back")[0].objects
    mask, original = mask_of(again, 300, 300), mask_of(large.objects[0], 300, 300)
    assert mask is not None
    assert original is not None
    assert (mask & original).sum() / (mask | original).sum() > 0.8


def test_mask_tokens_of_another_codec_are_refused(tmp_path: Path) -> None:
    write_rows("coco", tmp_path / "coco", object_rows(tmp_path / "pictures", 2))
    codecs = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    for path in codecs:
        save_mask_codec(path, MaskCodec(MaskCodecConfig()), path.stem)
    convert(tmp_path / "coco", tmp_path / "text", "jsonl", task="segment", mask_codec=codecs[0])
    record = recorded_mask_codec(tmp_path / "text")
    assert record is not None
    assert record.name == "one"
    convert(tmp_path / "text", tmp_path / "back", "coco", task="segment", mask_codec=codecs[0])
    with pytest.raises(CheckpointError, match="other"):
        convert(tmp_path / "text", tmp_path / "wrong", "coco", task="segment", mask_codec=codecs[1])
    assert not (tmp_path / "wrong").exists()


def test_nothing_is_made_where_nothing_can_be_written(tmp_path: Path) -> None:
    write_rows("jsonl", tmp_path / "text", text_rows(tmp_path / "pictures", [("ocr", "x")]))
    with pytest.raises(DataError, match="none of 1 rows can be written as yolo") as caught:
        convert(tmp_path / "text", tmp_path / "new", "yolo")
    assert "1 × the row has no objects" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "text"]


def test_damage_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    write_rows(
        "tar", tmp_path / "text", text_rows(tmp_path / "pictures", [("ocr", str(n)) for n in range(9)])
    )
    shard = tmp_path / "text" / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(DataError, match="damaged"):
        convert(tmp_path / "text", tmp_path / "new", "csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "text"]


def test_what_exists_is_not_overwritten(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        convert(coco, tmp_path / "new", "yolo")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine"]


def test_a_data_set_is_not_written_into_itself(coco: Path) -> None:
    with pytest.raises(InputError, match="is inside of"):
        convert(coco, coco / "new", "yolo")


def test_tasks_and_formats_are_checked_before_work_begins(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'count' is not a task"):
        convert(coco, tmp_path / "new", "jsonl", task="count")
    with pytest.raises(InputError, match="'xml' is not a format"):
        convert(coco, tmp_path / "new", "xml")


def test_progress_counts_rows(coco: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    run(DataConvertConfig(source=coco, destination=tmp_path / "new", to="yolo"), seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_several_answers_stay_together_where_the_format_holds_them(tmp_path: Path) -> None:
    (row,) = text_rows(tmp_path / "pictures", [("caption en", "one")])
    write_rows("jsonl", tmp_path / "rows", [replace(row, answers=("one", "two"))])
    for to, expected in (("tar", [("one", "two")]), ("csv", [(), ()]), ("coco", [("one", "two")])):
        convert(tmp_path / "rows", tmp_path / to, to)
        assert [each.answers for each in read_sound(None, tmp_path / to)] == expected
    assert [each.suffix for each in read_sound(None, tmp_path / "csv")] == ["one", "two"]
