"""Pickles that hold plain values only, read without the danger of others."""

import pickle
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError

_SETS = {("builtins", "set"), ("__builtin__", "set")}  # pickles have no instruction of their own for them


def read_plain_pickle(folder: DataFolder, name: str) -> Any:
    """What a pickle holds: dict, list, tuple, set, str, int, float, bool and None, and nothing else.

    Texts of Python 2 are read as Latin-1. A pickle is a program that may call any function by its name; here
    every name but that of the set is refused before anything is looked up.

    Raises:
        DataError: the file is not there or damaged, or holds anything else.
    """
    try:
        with folder.open(name) as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except _NotPlain as error:
        raise DataError(
            f"{name} is not read: it holds {error}, and may run any program",
            hint="take the file from the authors of the data set; it holds plain values only",
        ) from error
    except DataError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise DataError(f"{name} cannot be read: {error}", hint="download it again") from error


class _NotPlain(Exception):
    """A name of something that is no plain value."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) in _SETS:
            return set
        raise _NotPlain(f"{module}.{name}")

    def persistent_load(self, pid: Any, /) -> Any:
        raise _NotPlain(f"a reference to {str(pid)[:40]!r}")
