"""Saved states of a run: written beside, flushed, renamed, verified before they are used. Never pickled."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from paligemma2.checkpoint.atomic import new_folder
from paligemma2.errors import WorkError

_TENSORS = "state.safetensors"
_MANIFEST = "manifest.json"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A state read back: tensors by name, and the small values beside them."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save_state(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write `folder/step-<step>` whole or not at all, then remove all but the newest `keep` states.

    Args:
        folder: of the run; is made if it is not there.
        step: updates done.
        tensors: by name; copied contiguously.
        values: whatever JSON can hold.
        keep: states to keep, this one included.

    Raises:
        WorkError: the disk is full or not writable; older states are untouched.
    """
    final = folder / f"step-{step:07d}"
    with new_folder(final, overwrite=True) as partial:
        path = partial / _TENSORS
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        except SafetensorError as error:  # its text is all that tells a full disk from another fault
            raise WorkError(
                f"{final} could not be written: {error}",
                hint="free some disk space and resume; older states are untouched",
            ) from error
        manifest = {
            "step": step,
            "files": {_TENSORS: {"bytes": path.stat().st_size, "sha256": _sha256(path)}},
            "values": dict(values),
        }
        (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    # A damaged state with a higher number, which the run passed over, must not push out the one just saved.
    others = [path for path in _state_folders(folder) if path != final]
    for old in others[keep - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest_state(folder: Path) -> SavedState | None:
    """The newest state whose manifest verifies, or None; the ones passed over are logged.

    What a killed process left half written is removed.
    """
    for leftover in folder.glob(".step-*"):
        _logger.warning("%s was left half written and is removed", leftover)
        shutil.rmtree(leftover, ignore_errors=True)
    for path in _state_folders(folder):
        try:
            return _load_state(path)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            _logger.warning("%s is damaged and passed over: %s", path, error)
    return None


def remove_states(folder: Path) -> None:
    """Remove all states of a run that has come to its end; its log stays."""
    for path in _state_folders(folder):
        shutil.rmtree(path, ignore_errors=True)


def _load_state(path: Path) -> SavedState:
    manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    for name, expected in manifest["files"].items():
        file = path / name
        if file.stat().st_size != expected["bytes"] or _sha256(file) != expected["sha256"]:
            raise ValueError(f"{name} differs from its manifest")
    return SavedState(step=manifest["step"], tensors=load_file(path / _TENSORS), values=manifest["values"])


def _state_folders(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
