import errno
import json
import os
from pathlib import Path

import pytest

from paligemma2.errors import WorkError
from paligemma2.training.run_log import append_to_log, rewind_log


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def fill(folder: Path, *numbers: int) -> None:
    for step in numbers:
        append_to_log(folder, {"step": step, "loss": 0.1})


def test_lines_are_added_in_a_folder_that_is_made(tmp_path: Path) -> None:
    fill(tmp_path / "deep" / "run", 5, 10)
    assert steps(tmp_path / "deep" / "run") == [5, 10]


def test_rewinding_drops_what_comes_after_the_step(tmp_path: Path) -> None:
    fill(tmp_path, 5, 10, 15)
    rewind_log(tmp_path, 10)
    assert steps(tmp_path) == [5, 10]
    rewind_log(tmp_path, 9)
    assert steps(tmp_path) == [5]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("end", ['{"step": 10, "lo', '{"step": 10}', "[]\n", '{"loss": 1}\n', "\n"])
def test_rewinding_drops_a_line_that_is_damaged(tmp_path: Path, end: str) -> None:
    fill(tmp_path, 5)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(end)
    rewind_log(tmp_path, 100)
    assert steps(tmp_path) == [5]


def test_without_a_log_there_is_nothing_to_rewind(tmp_path: Path) -> None:
    rewind_log(tmp_path / "nowhere", 3)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file in the place of the folder")
    with pytest.raises(WorkError, match="the log could not be written") as raised:
        append_to_log(tmp_path / "run", {"step": 1})
    assert raised.value.exit_code == 1
    assert raised.value.hint


def test_a_full_disk_while_rewinding_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 5, 10)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", fail)
        with pytest.raises(WorkError, match="No space left"):
            rewind_log(tmp_path, 5)
    assert steps(tmp_path) == [5, 10]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
