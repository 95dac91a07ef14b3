import dataclasses
import json
from pathlib import Path

import pytest

from paligemma2.errors import DataError, InputError
from paligemma2.jobs.data_check import DataCheckConfig, run
from tests.jobs.broken_data import record, save_broken_data, save_scene, save_sound_data, write_lines
from tests.small_model import save_small_model


def test_every_fault_is_found_in_its_line(tmp_path: Path) -> None:
    places = save_broken_data(tmp_path / "data")
    report = run(DataCheckConfig(source=tmp_path / "data"))
    found = {
        (finding.rule, finding.place.file.name, finding.place.line)
        for finding in report.findings
        if finding.place is not None
    }
    for rule, (name, line) in places.items():
        assert (rule, name, line) in found
    assert {finding.rule for finding in report.findings} >= {"eval-only-label", "train-only-label"}
    assert sum(report.skipped.values()) == 2
    assert sum(report.corrected.values()) == 2
    assert report.num_rows == 10 + 4


def test_sound_data_have_no_findings(tmp_path: Path) -> None:
    report = run(DataCheckConfig(source=save_sound_data(tmp_path / "data")))
    assert report.findings == ()
    assert (report.num_rows, report.album.pictures, list(report.splits)) == (4, 4, ["train", "valid"])


def test_all_are_counted_whatever_the_limit(tmp_path: Path) -> None:
    save_broken_data(tmp_path / "data")
    config = DataCheckConfig(source=tmp_path / "data")
    least, all_of_them = run(dataclasses.replace(config, limit=1)), run(dataclasses.replace(config, limit=0))
    assert least.counts == all_of_them.counts
    assert len(least.findings) == len(least.counts)
    assert len(all_of_them.findings) == sum(all_of_them.counts.values())


def test_the_context_is_that_of_the_model(tmp_path: Path) -> None:
    data = save_sound_data(tmp_path / "data")
    write_lines(data / "_annotations.test.jsonl", [record("0.png", "ocr", "<loc0001>" * 600 + " a")])
    model = save_small_model(tmp_path / "model")
    for name in model.glob("*.safetensors"):
        name.unlink()  # only the configuration and the tokenizer are read
    assert "cannot-encode" not in run(DataCheckConfig(source=data)).counts
    assert run(DataCheckConfig(source=data, model=model)).counts["cannot-encode"] == 1


def test_objects_are_checked_as_the_text_they_become(tmp_path: Path) -> None:
    save_scene(tmp_path / "a.png", 0)
    boxes = {1: [10, 20, 30, 40], 2: [100, 100, 50, 50], 3: [50, 50, -20, 10]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 112, "width": 110}],
        "categories": [{"id": 1, "name": "person's hat"}],
        "annotations": [
            {"id": key, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
            for key, box in boxes.items()
        ],
    }
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    report = run(DataCheckConfig(source=tmp_path))
    assert (report.counts["bad-box"], report.counts["size-mismatch"]) == (2, 1)
    (example,) = report.examples
    assert example.prefix == "detect person's hat"
    assert example.suffix.endswith(" person's hat")
    assert dict(report.splits["train"].labels) == {"person's hat": 2}


def test_a_picture_without_objects_is_no_error(tmp_path: Path) -> None:
    save_scene(tmp_path / "a.png", 0)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 112, "width": 112}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [],
    }
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    assert run(DataCheckConfig(source=tmp_path)).count("error") == 0


def test_data_without_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no rows"):
        run(DataCheckConfig(source=tmp_path))


def test_where_nothing_is_nothing_can_be_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        run(DataCheckConfig(source=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("name", "value"), [("text_length", 0), ("limit", -1), ("num_first", -1), ("num_workers", -1)]
)
def test_numbers_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(InputError, match=str(value)):
        dataclasses.replace(DataCheckConfig(source=Path()), **{name: value})
