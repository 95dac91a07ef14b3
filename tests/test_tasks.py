from pathlib import Path

import pytest

from paligemma2 import tasks
from paligemma2.errors import InputError

MINE = """
from tests.small_task import small_task

TASK = small_task()
"""


def test_a_task_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert tasks.load(str(tmp_path / "mine.py")).title == "Colours"


def test_an_unknown_task_is_told() -> None:
    with pytest.raises(InputError, match="no task 'tallyq'"):
        tasks.load("tallyq")


@pytest.mark.parametrize("text", ["TASK = 3", "import no_such_module", "", "TASK = ("])
def test_a_file_without_a_task_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=r"mine\.py"):
        tasks.load(str(tmp_path / "mine.py"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        tasks.load(str(tmp_path / "none.py"))
