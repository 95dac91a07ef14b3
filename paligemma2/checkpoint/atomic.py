"""Writing beside the destination and renaming at the end: what exists stays whole until then."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from paligemma2.errors import InputError, WorkError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def new_folder(destination: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder beside `destination` that becomes it when the block ends without an error.

    Raises:
        InputError: `destination` exists, is not an empty folder, and `overwrite` is false.
        WorkError: the disk is full or refuses; nothing is left behind.
    """
    _check_free(destination, overwrite=overwrite)
    with _failing_clean(destination) as partial:
        if (
            partial.is_dir()
        ):  # of a process that was killed and had this number, as in a container that restarts
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        yield partial
        for file in partial.iterdir():
            _sync(file)
        _sync(partial)
        if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
            partial.rename(destination)
        else:
            _swap(partial, destination)
        _sync(destination.parent)


@contextlib.contextmanager
def new_file(destination: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside `destination` to write; the file becomes `destination` when the block ends well.

    Raises:
        InputError: `destination` exists and `overwrite` is false.
        WorkError: the disk is full or refuses; nothing is left behind.
    """
    if destination.is_dir():
        raise InputError(f"{destination} is a folder", hint="give the name of a file")
    _check_free(destination, overwrite=overwrite)
    with _failing_clean(destination) as partial:
        destination.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _sync(partial)
        partial.replace(destination)
        _sync(destination.parent)


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Write an object as JSON, in the place of what is there; what JSON does not know is written as text.

    Raises:
        WorkError: the disk is full or refuses; what was there is untouched.
    """
    with new_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(data, indent=2, default=str) + "\n", encoding="utf-8")


def _check_free(destination: Path, *, overwrite: bool) -> None:
    is_empty_folder = destination.is_dir() and not any(destination.iterdir())
    if destination.exists() and not is_empty_folder and not overwrite:
        raise InputError(f"{destination} already exists", hint="give a new name, or remove it first")


@contextlib.contextmanager
def _failing_clean(destination: Path) -> Iterator[Path]:
    partial = destination.absolute().parent / f".{destination.name}.partial-{os.getpid()}"
    try:
        with explained(destination):
            yield partial
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        elif partial.exists():
            partial.unlink()


@contextlib.contextmanager
def explained(destination: Path) -> Iterator[None]:
    """Errors of the system while `destination` is written, as ours.

    Raises:
        WorkError: the disk is full or refuses.
    """
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        raise WorkError(
            f"{destination} could not be written: {reason}",
            hint="free some space or choose another place; what was there before is unchanged",
        ) from error


def _swap(partial: Path, destination: Path) -> None:
    """Put `partial` in the place of `destination`; a crash in between leaves the old one beside it."""
    old = partial.with_name(f".{destination.name}.old-{os.getpid()}")
    destination.rename(old)
    try:
        partial.rename(destination)
    except OSError:
        old.rename(destination)
        raise
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
