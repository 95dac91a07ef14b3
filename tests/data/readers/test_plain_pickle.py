import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.plain_pickle import read_plain_pickle
from paligemma2.errors import DataError

PLAIN = [{"a": (1, 2.5, -(10**20)), "b": {"x", "y"}, "c": [None, True, False], "ä": "é🦩"}]
# What Python 2 wrote for [{"sent": "caf\xe9", "raw": u"caf\xe9"}], protocol 0 and 2: a text of bytes, and a
# text of letters.
PYTHON_2 = (
    b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xe9'\np3\nsS'raw'\np4\nVcaf\xe9\np5\nsa.",
    b"\x80\x02]q\x00}q\x01(U\x04sentq\x02U\x04caf\xe9q\x03U\x03rawq\x04X\x05\x00\x00\x00caf\xc3\xa9q\x05ua.",
)


class Malicious:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


def read_it(path: Path) -> Any:
    return read_plain_pickle(DataFolder(path.parent), path.name)


def written(path: Path, value: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read(tmp_path: Path, protocol: int) -> None:
    if protocol >= 4:
        assert read_it(written(tmp_path / "a.p", PLAIN, protocol)) == PLAIN
    else:
        value = [{**PLAIN[0], "b": {1, 2}}]
        assert read_it(written(tmp_path / "a.p", value, protocol)) == value


@pytest.mark.parametrize("content", PYTHON_2)
def test_texts_of_python_2_are_latin_1(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.p").write_bytes(content)
    assert read_it(tmp_path / "a.p") == [{"sent": "café", "raw": "café"}]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_file_does_nothing(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    path = written(tmp_path / "a.p", [{"sent": Malicious(made)}], protocol)
    with pytest.raises(DataError, match=r"a\.p is not read: it holds (posix|nt)\.mkdir"):
        read_it(path)
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()


@pytest.mark.parametrize(
    "value", [np.arange(3), np.float64(1.5), Path("a"), frozenset("a"), bytearray(b"a"), ValueError, 1j]
)
def test_other_objects_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError, match="is not read: it holds"):
        read_it(written(tmp_path / "a.p", [value]))


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c__builtin__\nset.__class__\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"Pfile\n.",
    ],
)
def test_programs_are_refused(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "a.p").write_bytes(program)
    with pytest.raises(DataError, match="is not read"):
        read_it(tmp_path / "a.p")


def test_damaged_and_missing_files_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.p", PLAIN)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="cannot be read"):
        read_it(path)
    with pytest.raises(DataError, match=r"none\.p is not there"):
        read_it(tmp_path / "none.p")
