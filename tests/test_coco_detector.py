"""The way of `docs/boxes-and-masks.md` at full length: COCO annotations to a detector that works."""

from pathlib import Path

import pytest

from paligemma2.assets import TINY_FOLDER
from paligemma2.data.registry import open_data
from paligemma2.inference.loading import load
from paligemma2.jobs import data_check, data_convert, transfer
from paligemma2.jobs.transfer_config import configure
from paligemma2.metrics.coco import CocoScores, TruePicture, coco_scores
from tests.coco_parts import NAMES, write_coco_parts

LABELS = sorted(NAMES.values())


def scores(model: str | Path, coco: Path) -> CocoScores:
    rows = list(open_data(coco, split="valid", on_problem=lambda problem: pytest.fail(str(problem))))
    found = load(model, device="cpu").detect_many(
        (row.images[0] for row in rows), LABELS, labels_per_prompt=len(LABELS)
    )
    predicted = [(row.id, each) for row, objects in zip(rows, found, strict=True) for each in objects]
    truth = [
        TruePicture(id=row.id, height=row.height or 0, width=row.width or 0, objects=row.objects)
        for row in rows
    ]
    return coco_scores(predicted, truth)


@pytest.mark.slow
@pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet")
def test_coco_annotations_become_a_detector(tmp_path: Path) -> None:
    coco = write_coco_parts(tmp_path / "coco", train=400, valid=60)
    rows = tmp_path / "rows"
    converted = data_convert.run(
        data_convert.DataConvertConfig(source=coco, destination=rows, to="jsonl", all_labels=True)
    )
    assert (converted.written, converted.skipped) == ({"train": 400, "valid": 60}, {})
    checked = data_check.run(data_check.DataCheckConfig(source=rows, num_workers=0))
    assert checked.count("error") == 0
    settings = ("training.steps=400", "num_workers=0", "evaluation.examples=20")
    config = configure("tiny", rows, tmp_path / "detector", settings=settings)
    transfer.run(config, lambda name, progress: None)
    before, after = scores("tiny", coco), scores(tmp_path / "detector", coco)
    assert before.ap < 0.05
    assert after.ap50 > 0.4
