"""Saved states of a run: written beside, flushed, renamed, verified before they are used. Never pickled.

A state is a folder: a file of tensors for each process that saved it, and a manifest with the sizes and
digests of the files and the place of every tensor. Any number of processes can go on from it.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from torch import Tensor

from paligemma2.checkpoint.atomic import explained, new_folder
from paligemma2.checkpoint.safetensors_writer import save_file
from paligemma2.training.state_files import Rows, StateTensors, describe, own_pieces
from paligemma2.training.team import ALONE, Team, team_of

_MANIFEST = "manifest.json"
_Stored: TypeAlias = tuple[str, dict[str, object], dict[str, Rows]]  # a file, its facts, what is in it
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A state that verified: tensors by name, read when they are asked for, and the small values beside."""

    step: int
    tensors: StateTensors
    values: dict[str, Any]


def save_state(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write `folder/step-<step>` whole or not at all, then remove all but the newest `keep` states.

    Where the tensors are shared out among processes, all of them call this, each writes what it holds, and
    they must see the same folder.

    Args:
        folder: of the run; is made if it is not there.
        step: updates done.
        tensors: by name; copied one after another.
        values: whatever JSON can hold.
        keep: states to keep, this one included.

    Raises:
        WorkError: the disk is full or not writable; older states are untouched.
    """
    team, final = team_of(tensors.values()), folder / f"step-{step:07d}"
    with ExitStack() as stack:

        def begin() -> str:
            return str(stack.enter_context(new_folder(final, overwrite=True))) if team.is_first else ""

        def write() -> _Stored:
            with explained(final):
                return _write_own(partial, tensors, team)

        def finish() -> None:
            if not team.is_first:
                return
            with explained(final):
                _write_manifest(partial, step, tensors, values, stored)
            stack.close()  # which gives the folder its name
            _remove_old(final, keep)

        partial = Path(team.run(begin)[0])
        stored = team.run(write)
        team.run(finish)
    return final


def load_newest_state(folder: Path, team: Team = ALONE) -> SavedState | None:
    """The newest state whose manifest verifies, or None; the ones passed over are logged.

    What a killed process left half written is removed.

    Args:
        folder: of the run.
        team: the processes that go on from it; each verifies some of the files.
    """
    if team.is_first:
        for leftover in folder.glob(".step-*"):
            _logger.warning("%s was left half written and is removed", leftover)
            shutil.rmtree(leftover, ignore_errors=True)
    for name in team.run(lambda: [path.name for path in _state_folders(folder)])[0]:
        path = folder / name
        faults = [fault for fault in team.run(lambda path=path: _fault(path, team)) if fault]  # type: ignore[misc]
        if not faults:
            return _open_state(path)
        if team.is_first:
            _logger.warning("%s is damaged and passed over: %s", path, faults[0])
    return None


def remove_states(folder: Path) -> None:
    """Remove all states of a run that has come to its end; its log stays."""
    for path in _state_folders(folder):
        shutil.rmtree(path, ignore_errors=True)


def _write_own(partial: Path, tensors: Mapping[str, Tensor], team: Team) -> _Stored:
    pieces = own_pieces(tensors, team)
    place = "" if team.size == 1 else f"-{team.rank + 1:05d}-of-{team.size:05d}"
    path = partial / f"state{place}.safetensors"
    save_file({name: share for name, (share, _) in pieces.items()}, path)
    facts: dict[str, object] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    return path.name, facts, {name: rows for name, (_, rows) in pieces.items()}


def _write_manifest(
    partial: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    stored: list[_Stored],
) -> None:
    manifest = {
        "step": step,
        "files": {name: facts for name, facts, _ in stored},
        "tensors": describe(tensors, [(name, rows) for name, _, rows in stored]),
        "values": dict(values),
    }
    (partial / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _remove_old(final: Path, keep: int) -> None:
    # A damaged state with a higher number, which the run passed over, must not push out the one just saved.
    others = [path for path in _state_folders(final.parent) if path != final]
    for old in others[keep - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def _fault(path: Path, team: Team) -> str:
    """What is wrong with a state, as far as this process looks; empty if nothing is."""
    try:
        _open_state(path)
        files = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))["files"]
        for name in sorted(files)[team.rank :: team.size]:
            file, expected = path / name, files[name]
            if file.stat().st_size != expected["bytes"] or _sha256(file) != expected["sha256"]:
                return f"{name} differs from its manifest"
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        return str(error) or repr(error)
    return ""


def _open_state(path: Path) -> SavedState:
    manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    tensors = StateTensors(path, manifest["tensors"])
    return SavedState(step=manifest["step"], tensors=tensors, values=manifest["values"])


def _state_folders(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
