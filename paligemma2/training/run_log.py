"""The log of a run: one JSON object a line, each step once, however often the run was stopped."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from paligemma2.errors import WorkError

_NAME = "log.jsonl"


def append_to_log(folder: Path, record: Mapping[str, float]) -> None:
    """Add a line to `folder/log.jsonl`; the folder is made if it is not there.

    Raises:
        WorkError: the disk is full or not writable.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def rewind_log(folder: Path, step: int) -> None:
    """Drop the lines after `step`, and one that was cut short: a run that goes on there writes them again.

    Raises:
        WorkError: the disk is full or not writable; the log is then as it was.
    """
    path = folder / _NAME
    if not path.exists():
        return
    with _explained(folder):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
        if kept == lines:
            return
        temporary = path.with_name(f".{_NAME}.{os.getpid()}")
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
