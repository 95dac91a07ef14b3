import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paligemma2.evaluation.predictions import read_predictions
from paligemma2.evaluation.result import read_results
from tests.cli.test_processes import torchrun
from tests.small_task import write_colours

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def colours(tmp_path):
    write_colours(tmp_path / "data", count=9)
    (tmp_path / "colours.py").write_text("from tests.small_task import small_task\nTASK = small_task()\n")
    return tmp_path


def words(folder, **changes):
    given = {
        "model": "tiny",
        "task": folder / "colours.py",
        "data": folder / "data",
        "output": folder / "runs",
    }
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in (given | changes).items()]
    return ["evaluate", *(word for pair in pairs for word in pair)]


def test_a_model_is_scored_and_the_number_printed_with_its_interval(run, colours):
    ended = run(*words(colours))
    assert ended.code == 0, ended.err
    header, row = ended.out.splitlines()
    assert header.split() == ["model", "row", "metric", "value", "95", "%", "card", "scored"]
    assert "Colours (val)" in row
    assert "100.0 to 100.0" in row
    assert "9 of 9" in row
    assert "tiny colours val: 9/9" in ended.err
    assert f"results are in {colours / 'runs'}" in ended.err


def test_several_models_and_a_sample(run, colours, folder):
    ended = run(*words(colours, limit=4, batch_size=2), "--model", folder)
    assert ended.code == 0, ended.err
    assert len(ended.out.splitlines()) == 3
    assert "only 4 rows of each split, which is no number of the card" in ended.err
    assert {result.model for result in read_results(colours / "runs")} == {"tiny", str(folder)}


def test_another_control_is_told(run, colours):
    ended = run(*words(colours, control="shuffled pictures"))
    assert "tiny (shuffled pictures)" in ended.out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "nothing"}, "there is no task 'nothing'"),
        ({"task": "all"}, "has no folder that is called like a task"),
        ({"data": "nowhere"}, "nowhere is not a folder"),
        ({"model": "nowhere"}, "nowhere"),
        ({"protocol": "card"}, "protocol is 'card'"),
        ({"mode": "strict"}, "mode is 'strict'"),
        ({"control": "x"}, "control is 'x'"),
        ({"split": "test"}, "no row of test"),
        ({"quantize": "int3"}, "int3"),
        ({"dtype": "float16"}, "float16"),
    ],
)
def test_mistakes_are_said_in_a_line(run, colours, changes, message):
    assert run(*words(colours, **changes)).has_failed_with(message)


def test_another_protocol_in_the_same_folder_is_refused(run, colours):
    assert run(*words(colours, limit=3)).code == 0
    assert run(*words(colours)).has_failed_with("made by another protocol")


STOPPED = """
import os, signal, sys
from paligemma2.cli import terminal
from paligemma2.cli.main import main
show = terminal.EvaluationBars.show
def stop(bars, progress):
    show(bars, progress)
    if progress.predicted.done == 3:
        os.kill(os.getpid(), signal.SIGTERM)
terminal.EvaluationBars.show = stop
main(sys.argv[1:])
"""


def test_a_stopped_evaluation_says_how_to_go_on(colours):
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STOPPED, *map(str, words(colours, batch_size=3))]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
    assert "error: stopped; 3 of 9 predictions" in ended.stderr
    assert "hint: the same command goes on from there" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(read_predictions(colours / "runs/tiny/colours/val.jsonl").lines) == 3


@pytest.mark.slow
def test_processes_of_torchrun_share_the_examples_and_one_speaks(colours):
    begin = time.monotonic()
    ended = torchrun("-m", "paligemma2", *words(colours, batch_size=2, device="cpu"))
    assert ended.returncode == 0, (ended.stderr, time.monotonic() - begin)
    assert ended.stdout.count("Colours (val)") == 1
    assert len(read_predictions(colours / "runs/tiny/colours/val.jsonl").lines) == 9
