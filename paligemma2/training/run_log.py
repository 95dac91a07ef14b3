"""The logs of a run: one JSON object a line, each step once, however often the run was stopped."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paligemma2.errors import WorkError

PROGRESS, EVALUATIONS = "log.jsonl", "evaluations.jsonl"
_NAMES = (PROGRESS, EVALUATIONS)


def append_to_log(folder: Path, record: Mapping[str, float], name: str = PROGRESS) -> None:
    """Add a line to a log; the folder is made if it is not there.

    Args:
        folder: of the run.
        record: with `step`.
        name: of the log.

    Raises:
        WorkError: the disk is full or not writable.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_log(folder: Path, name: str = PROGRESS) -> list[dict[str, Any]]:
    """The lines of a log; none if there is no log yet."""
    path = folder / name
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def rewind_log(folder: Path, step: int) -> None:
    """Drop the lines after `step` from all logs, and one that was cut short; the run writes them again.

    Raises:
        WorkError: the disk is full or not writable; the log is then as it was.
    """
    for name in _NAMES:
        _rewind(folder / name, step)


def _rewind(path: Path, step: int) -> None:
    if not path.exists():
        return
    with _explained(path.parent):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
        if kept == lines:
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text("".join(kept), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _step_of(line: str) -> float:
    """The step of a line, infinite if the line is damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"{folder}: the log could not be written: {error}",
            hint="free some disk space or check the folder, and resume; saved states are untouched",
        ) from error
