import json
import os
import subprocess
import sys

from paligemma2 import tasks
from paligemma2.evaluation.task import COLUMNS, Row
from tests.small_task import EQUAL, small_task

TASK = small_task(
    rows=(
        Row(
            title="Colours (a)", splits=("val",), metric=EQUAL, published=(74.7, 80.0, None, 75, 81.25, None)
        ),
        Row(title="Colours (b)", splits=("train",), metric=EQUAL),
    )
)


def one_task(monkeypatch):
    monkeypatch.setattr(tasks, "names", lambda: ("colours",))
    monkeypatch.setattr(tasks, "load", lambda name: TASK)


def test_every_row_is_listed_with_the_numbers_of_the_card(run, monkeypatch):
    one_task(monkeypatch)
    ended = run("tasks")
    header, first, second = ended.out.splitlines()
    assert header.split()[-6:] == list(COLUMNS)
    assert first.split()[-6:] == ["74.7", "80.0", "–", "75.0", "81.2", "–"]
    assert second.split()[-6:] == ["–"] * 6
    assert first.split()[:3] == ["colours", "Colours", "(a)"]


def test_json_has_null_where_there_is_no_number(run, monkeypatch):
    one_task(monkeypatch)
    first, second = json.loads(run("tasks", "--json").out)
    numbers = {
        "224-3B": 74.7,
        "224-10B": 80.0,
        "224-28B": None,
        "448-3B": 75,
        "448-10B": 81.25,
        "448-28B": None,
    }
    assert first == {"task": "colours", "row": "Colours (a)", "metric": "equality", "published": numbers}
    assert list(first["published"]) == list(COLUMNS)
    assert set(second["published"].values()) == {None}


def test_all_tasks_are_listed_without_torch():
    script = (
        "import sys\nfrom paligemma2.cli.main import main\n"
        "try:\n    main(['tasks', '--json'])\nfinally:\n    assert 'torch' not in sys.modules"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ.copy(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert {each["task"] for each in json.loads(ended.stdout)} == set(tasks.names())
