import errno
import os
from pathlib import Path

import pytest

from paligemma2.checkpoint.atomic import explained, new_file, new_folder
from paligemma2.errors import InputError, WorkError


def fail_in_folder(folder: Path, error: BaseException) -> None:
    with new_folder(folder, overwrite=True) as partial:
        (partial / "new").write_text("half")
        raise error


def fail_in_file(file: Path, error: BaseException) -> None:
    with new_file(file, overwrite=True) as partial:
        partial.write_text("half")
        raise error


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "model"
    with new_folder(destination) as partial:
        (partial / "a").write_text("1")
        assert not destination.exists()
    assert (destination / "a").read_text() == "1"
    assert list(destination.parent.iterdir()) == [destination]


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "model.npz"
    with new_file(destination) as partial:
        partial.write_text("1")
        assert not destination.exists()
    assert destination.read_text() == "1"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with new_folder(tmp_path / "model") as partial:
        (partial / "a").touch()
    assert (tmp_path / "model" / "a").exists()


def test_what_exists_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="already exists"), new_folder(tmp_path / "model"):
        pass
    with pytest.raises(InputError, match="already exists"), new_file(tmp_path / "file"):
        pass
    with pytest.raises(InputError, match="is a folder"), new_file(tmp_path / "model", overwrite=True):
        pass


def test_overwriting_replaces_all_of_it(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with new_folder(tmp_path / "model", overwrite=True) as partial:
            (partial / name).touch()
        with new_file(tmp_path / "file", overwrite=True) as partial:
            partial.write_text(name)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
    assert (tmp_path / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path: Path, number: int) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("whole")
    (tmp_path / "file").write_text("whole")
    with pytest.raises(WorkError, match="the disk is full") as raised:
        fail_in_folder(tmp_path / "model", OSError(number, "no room"))
    assert "unchanged" in raised.value.hint
    assert raised.value.exit_code == 1
    with pytest.raises(WorkError, match="the disk is full"):
        fail_in_file(tmp_path / "file", OSError(number, "no room"))
    assert (tmp_path / "model" / "old").read_text() == "whole"
    assert (tmp_path / "file").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_in_folder(tmp_path / "model", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="Not a directory"), new_folder(tmp_path / "file" / "model"):
        pass


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output")]
)
def test_an_error_of_the_system_is_told_as_ours(tmp_path: Path, number: int, reason: str) -> None:
    with (
        pytest.raises(WorkError, match=f"model could not be written: {reason}"),
        explained(tmp_path / "model"),
    ):
        raise OSError(number, os.strerror(number))
