import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import DataError, InputError, Interrupted
from paligemma2.evaluation.predictions import read_predictions
from paligemma2.evaluation.result import read_results
from paligemma2.jobs.evaluate import run
from paligemma2.jobs.evaluate_config import EvaluateConfig
from tests.several_processes import in_processes
from tests.small_task import write_colours

PROJECT = Path(__file__).resolve().parents[2]
FILE = "from tests.small_task import small_task\nTASK = small_task({})\n"


@pytest.fixture
def folder(tmp_path):
    write_colours(tmp_path / "data", count=12)
    (tmp_path / "colours.py").write_text(FILE.format(""))
    return tmp_path


def config(folder, **changes):
    given = {
        "models": ("tiny",),
        "tasks": (str(folder / "colours.py"),),
        "data": folder / "data",
        "output": folder / "runs",
        "batch_size": 4,
    }
    return EvaluateConfig(**(given | changes))


def lines_of(folder, run_name="tiny"):
    return read_predictions(folder / "runs" / run_name / "colours" / "val.jsonl").lines


class Counter:
    """How many predictions were made since the start."""

    def __init__(self):
        self.made, self.before = 0, None

    def __call__(self, progress):
        done = progress.predicted.done
        self.made += 0 if self.before is None else done - self.before
        self.before = done


def test_a_model_is_scored_and_the_result_written(folder):
    counter = Counter()
    (result,) = run(config(folder), on_progress=counter)
    assert counter.made == 12
    (row,) = result.rows
    assert (row.row, row.metric, row.value, row.interval) == ("Colours (val)", "equality", 1.0, (1.0, 1.0))
    assert (row.num_scored, row.num_rows) == (12, 12)
    assert result.is_whole
    assert result.task == "colours"
    assert result.seconds > 0
    assert read_results(folder / "runs") == [result]
    assert [line.score for line in lines_of(folder)] == [1.0] * 12
    header = read_predictions(folder / "runs/tiny/colours/val.jsonl").header
    assert header.fingerprint == result.fingerprint
    assert header.protocol["task"] == "colours"


def test_a_second_start_predicts_nothing_and_gives_the_same(folder):
    (first,) = run(config(folder))
    counter = Counter()
    (second,) = run(config(folder), on_progress=counter)
    assert counter.made == 0
    assert second.rows == first.rows


def test_a_stop_is_gone_on_from(folder):
    def stop(progress):
        if progress.predicted.done == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="4 of 12"):
        run(config(folder), on_progress=stop)
    assert len(lines_of(folder)) == 4
    counter = Counter()
    (result,) = run(config(folder), on_progress=counter)
    assert counter.made == 8
    assert result.rows[0].value == 1.0


SLOW = """
import sys, time
from pathlib import Path
from paligemma2.jobs import evaluate
from tests.jobs.test_evaluate import config
def wait(progress):
    print(progress.predicted.done, flush=True)
    time.sleep(0.3)
evaluate.run(config(Path(sys.argv[1]), batch_size=1), on_progress=wait)
"""


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_repeats_nothing(folder):
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 3:
            time.sleep(0.01)
        process.kill()
    kept = lines_of(folder)
    assert 3 <= len(kept) < 12
    counter = Counter()
    (result,) = run(config(folder), on_progress=counter)
    assert counter.made == 12 - len(kept)
    assert [replace(line, score=None) for line in lines_of(folder)][: len(kept)] == list(kept)
    assert result.rows[0].value == 1.0


def in_one_of_several(folder):
    counter = Counter()
    (result,) = run(config(folder, device="cpu"), on_progress=counter)
    return counter.made, result.rows[0].value


def test_two_processes_share_the_examples_and_three_go_on_where_they_stopped(folder, tmp_path):
    assert in_processes(in_one_of_several, 2, tmp_path / "two", folder) == [(6, 1.0), (6, 1.0)]
    path = folder / "runs/tiny/colours/val.jsonl"
    assert [line.index for line in lines_of(folder)] == list(range(12))
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join(text[:6]))  # five predictions
    (path.with_name("val.part1.jsonl")).write_text("".join([text[0], *text[8:10]]) + text[10][:40])
    made = in_processes(in_one_of_several, 3, tmp_path / "three", folder)
    assert [count for count, _ in made] == [1, 2, 2]
    assert [line.index for line in lines_of(folder)] == list(range(12))
    assert [each.name for each in sorted(path.parent.iterdir())] == ["result.json", "val.jsonl"]


def test_another_protocol_or_model_in_the_same_folder_is_refused(folder):
    run(config(folder, limit=3))
    with pytest.raises(DataError, match="limit was 3, is None"):
        run(config(folder))
    with pytest.raises(DataError, match="another protocol"):
        run(config(folder, limit=3, protocol="hf"))
    with pytest.raises(DataError, match="another model"):
        run(config(folder, limit=3, dtype="bfloat16"))
    assert len(lines_of(folder)) == 3


def test_a_part_of_the_rows_is_no_number_of_the_card(folder):
    (result,) = run(config(folder, limit=5, seed=1))
    assert not result.is_whole
    assert (result.limit, result.rows[0].num_scored, result.rows[0].num_rows) == (5, 5, 12)


def test_missing_and_damaged_pictures_are_named_and_the_number_is_partial(folder):
    (folder / "data/images/val_3.png").unlink()
    (folder / "data/images/val_7.png").write_bytes(b"no picture")
    told = []
    (result,) = run(config(folder), on_event=told.append)
    assert "colours val: 2 pictures are not there or damaged: val_3.png, " in told[0]
    assert "val_7.png (" in told[0]
    assert len(result.missing["val"]) == 2
    assert not result.is_whole
    assert (result.rows[0].num_scored, result.rows[0].num_rows) == (10, 12)
    assert result.rows[0].value == 1.0


def test_controls_are_apart_and_worse(folder):
    values = {}
    for control in ("", "shuffled pictures", "random weights"):
        (result,) = run(config(folder, control=control))
        assert result.control == control
        values[control] = result.rows[0].value
    assert values[""] == 1.0
    assert max(values["shuffled pictures"], values["random weights"]) < 0.8
    assert len(read_results(folder / "runs")) == 3


def test_the_official_mode_scores_the_same_predictions_again(folder):
    run(config(folder))
    counter = Counter()
    (result,) = run(config(folder, mode="official"), on_progress=counter)
    assert counter.made == 0
    assert result.mode == "official"


def test_several_tasks_have_their_data_in_folders_of_their_own(folder):
    (folder / "data").rename(folder / "moved")
    for name in ("colours", "again"):
        write_colours(folder / "data" / name, count=3)
    (folder / "again.py").write_text(FILE.format("beams=2"))
    results = run(config(folder, tasks=(str(folder / "colours.py"), str(folder / "again.py"))))
    assert [(each.task, each.rows[0].value) for each in results] == [("colours", 1.0), ("again", 1.0)]


def test_wrong_names_are_said_before_anything_is_done(folder):
    with pytest.raises(InputError, match="there is no task"):
        run(config(folder, tasks=("nothing",)))
    with pytest.raises(DataError, match="is not a folder"):
        run(config(folder, data=folder / "nowhere"))
    with pytest.raises(InputError, match="no row of test"):
        run(config(folder, splits=("test",)))
    assert not (folder / "runs").exists()


def test_the_result_is_plain_json(folder):
    run(config(folder))
    content = json.loads((folder / "runs/tiny/colours/result.json").read_text())
    assert content["protocol"]["hash"]
    assert content["rows"][0]["interval"] == [1.0, 1.0]


def served(folder, **changes):
    """The task with its training questions as a test split that a server scores."""
    task = folder / "served.py"
    task.write_text(FILE.format("test_split='train', submission='vqa'"))
    return config(folder, tasks=(str(task),), splits=("train",), **changes)


def test_a_test_split_gives_the_file_for_its_server_and_no_number(folder):
    told = []
    (result,) = run(served(folder), on_event=told.append)
    assert result.rows == ()
    path = folder / "runs/tiny/served/train.submission.json"
    content = json.loads(path.read_text())
    assert content[1] == {"question_id": 1, "answer": "green"}
    assert len(content) == 12
    assert told == [f"served train: {path} is for the server"]


def test_no_file_for_a_server_is_made_of_a_part_of_the_questions(folder):
    told = []
    run(served(folder, limit=3, output=folder / "sample"), on_event=told.append)
    assert "no file for the server is made of a sample" in told[0]
    (folder / "data/images/train_3.png").unlink()
    with pytest.raises(DataError, match=r"pictures are missing: train_3\.png"):
        run(served(folder))
    assert not list(folder.rglob("*.submission.json"))


def test_the_data_may_be_on_the_hub_if_the_task_knows_it(tmp_path: Path) -> None:
    config = EvaluateConfig(models=("tiny",), tasks=("gqa",), data="lmms-lab/GQA", output=tmp_path / "runs")
    with pytest.raises(DataError, match="GQA is not known as 'lmms-lab/GQA', which is no folder here either"):
        run(config)
