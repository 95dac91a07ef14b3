import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import InputError
from paligemma2.evaluation.predictions import read_predictions
from paligemma2.evaluation.result import read_results
from paligemma2.jobs import data_pack, evaluate
from paligemma2.jobs.bulk import BulkSettings
from paligemma2.jobs.bulk_evaluate import BulkEvaluateConfig, run
from paligemma2.jobs.evaluate_config import EvaluateConfig
from tests.small_task import write_colours

PROJECT = Path(__file__).parents[2]
# What the file defines itself must reach the workers, which do not have it.
FILE = """
from dataclasses import dataclass, replace
from paligemma2.evaluation.task import Frames
from tests.small_task import EQUAL, small_task

BY_MASKS = replace(small_task().rows[0], metric=replace(EQUAL, reads_masks=True))

@dataclass(frozen=True)
class Answer:
    def __call__(self, fields):
        return (fields["answer"], fields["answer"].upper())

TASK = small_task(suffix=Answer(){})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_colours(tmp_path / "data", count=12)
    (tmp_path / "colours.py").write_text(FILE.format(""))
    return tmp_path


def evaluation(folder: Path, **more: object) -> EvaluateConfig:
    given = {"models": ("tiny",), "tasks": (str(folder / "colours.py"),), "data": folder / "data"}
    return EvaluateConfig(**{**given, "output": folder / "plain", "batch_size": 4, **more})  # type: ignore[arg-type]


def config(folder: Path, **more: object) -> BulkEvaluateConfig:
    asked = evaluation(folder, **more)
    return BulkEvaluateConfig(
        evaluation=asked, data=str(folder / "packed"), output=str(folder / "out"), settings=BulkSettings()
    )


@pytest.mark.slow
def test_a_task_has_the_same_result_as_without_ray(folder: Path) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    task = str(folder / "colours.py")
    (folder / "data" / "images" / "val_7.png").write_bytes(b"not a picture")
    (plain,) = evaluate.run(evaluation(folder))
    data_pack.run(data_pack.DataPackConfig(task=task, data=folder / "data", destination=folder / "packed"))
    words = ["bulk", "--task", task, "--data", folder / "packed", "--output", folder / "out"]
    words += ["--results", folder / "results", "--rows-per-unit", 5, "--workers", 2, "--batch-size", 4]
    ended = subprocess.run(
        [sys.executable, "-m", "paligemma2", *map(str, words)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert "11 of 12" in ended.stdout
    (result,) = read_results(folder / "results")
    assert result.missing.keys() == plain.missing.keys() == {"val"}
    changed = {"missing": plain.missing, "date": plain.date, "seconds": plain.seconds}
    assert replace(result, **changed) == plain
    ours, theirs = (
        read_predictions(folder / name / "tiny" / "colours" / "val.jsonl") for name in ("results", "plain")
    )
    assert ours.header == theirs.header
    kept = ("id", "prompt", "prediction", "answers", "unit", "meta", "finish_reason", "score")
    assert [[getattr(line, name) for name in kept] for line in ours.lines] == [
        [getattr(line, name) for name in kept] for line in theirs.lines
    ]


def test_what_bulk_cannot_do_is_told_before_anything_is_done(folder: Path) -> None:
    with pytest.raises(InputError, match="2 models and 1 tasks"):
        config(folder, models=("tiny", "other"))
    with pytest.raises(InputError, match="limits and controls"):
        config(folder, limit=3)
    with pytest.raises(InputError, match="has no row of train"):
        run(config(folder, splits=("train",)))
    for changes, message in (
        (", frames=Frames(2, 1)", "about videos"),
        (", rows=(BY_MASKS,)", "scored by masks"),
    ):
        (folder / "colours.py").write_text(FILE.format(changes))
        with pytest.raises(InputError, match=message):
            run(config(folder))
    assert not (folder / "out").exists()
