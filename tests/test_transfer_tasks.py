"""The tables and pictures of `docs/transfer.md` are measured; a short form of one task is measured again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from paligemma2 import tasks
from paligemma2.assets import TINY_FOLDER

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "transfer.md"
SCRIPT = PROJECT / "benchmarks" / "transfer_tasks.py"
RESULTS = PROJECT / "benchmarks" / "results" / "transfer_tasks.json"


RECIPES = {name: recipe for name in tasks.names() if (recipe := tasks.load(name).recipe) is not None}


def results(path: Path = RESULTS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return found


def table_named(name: str) -> str:
    _, table, _ = PAGE.read_text(encoding="utf-8").split(f"<!-- {name} -->")
    return table.strip()


def recipe_table() -> str:
    lines = ["| recipe | epochs | batch | 3B | 10B | 28B |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, row in RECIPES.items():
        epochs, batch = (
            value[0] if isinstance(value, tuple) else value for value in (row.epochs, row.batch_size)
        )
        rates = (f"{rate:.0e}".replace("e-0", "e-") if rate else "" for rate in row.paligemma2)
        lines.append(f"| `{name}` | {epochs} | {batch} | {' | '.join(rates)} |".replace("  |", " |"))
    return "\n".join(lines)


def task_table() -> str:
    lines = [
        "| task | score | before | after | after, pictures shuffled | updates |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results().items():
        right, shuffled = result["right"], result["shuffled"]
        scores = " | ".join(f"{each:.3f}" for each in (right["before"], right["after"], shuffled["after"]))
        lines.append(f"| {name} | {right['metric']} | {scores} | {result['steps']} |")
    return "\n".join(lines)


def test_the_table_of_recipes_is_that_of_the_package() -> None:
    assert len(RECIPES) == 31
    assert table_named("recipes") == recipe_table()


def test_the_table_of_the_tasks_has_the_measured_scores() -> None:
    assert table_named("tasks") == task_table()


@pytest.mark.parametrize("name", ["detect", "answer", "read"])
def test_each_task_was_learned_from_its_pictures_and_is_shown(name: str) -> None:
    result = results()[name]
    right, shuffled = result["right"], result["shuffled"]
    assert right["after"] > 3 * max(right["before"], shuffled["after"])
    picture = ElementTree.parse(PAGE.with_name(f"transfer-{name}.svg")).getroot()
    classes = [line.attrib["class"] for line in picture.iter("{http://www.w3.org/2000/svg}polyline")]
    assert classes == ["control", "curve"] * 2  # score and loss


@pytest.mark.slow
@pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet")
def test_the_small_model_learns_a_new_task_from_its_pictures_alone(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    short = ["--tasks", "answer", "--steps", "96", "--train", "480", "--held-out", "48"]
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), *short, "--json", str(report)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    result = results(report)["answer"]
    assert result["right"]["before"] < 0.1
    assert result["right"]["after"] > 0.5
    assert result["shuffled"]["after"] < 0.2
