"""`docs/add-a-benchmark.md` adds a benchmark: here it is done as it is written there, and used."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from paligemma2 import tasks
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.evaluation.examples import read_examples
from tests.test_tasks import test_every_task as walk

PAGE = Path(__file__).resolve().parents[1] / "docs" / "add-a-benchmark.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a benchmark of one file and one folder, and nothing else, beside those of the package."""
    (tmp_path / "tasks").mkdir()
    (task,) = blocks("python")
    (tmp_path / "tasks" / "colours.py").write_text(task)
    fixture = tmp_path / "fixtures" / "colours"
    fixture.mkdir(parents=True)
    for name, text in zip(
        ("colours_train.json", "colours_val.json", "expected.json"), blocks("json"), strict=True
    ):
        (fixture / name).write_text(text)
    (fixture / "source.txt").write_text("docs/add-a-benchmark.md")
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 8), colour).save(fixture / f"{colour}.png")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path / "tasks")])
    monkeypatch.setattr("tests.test_tasks.FIXTURES", tmp_path / "fixtures")
    return "colours"


def test_it_is_found_by_its_name_and_walked(added: str) -> None:
    assert added in tasks.names()
    walk(added)


def test_a_file_anywhere_is_a_task_too(added: str, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "tasks" / "colours.py", tmp_path / "mine.py")
    task = tasks.load(str(tmp_path / "mine.py"))
    found = read_examples(task, "val", DataFolder(tmp_path / "fixtures" / "colours"))
    assert [each.example.suffix for each in found.examples] == ["red", "blue"]


def test_the_file_is_about_forty_lines(added: str) -> None:
    assert len(blocks("python")[0].splitlines()) <= 45
