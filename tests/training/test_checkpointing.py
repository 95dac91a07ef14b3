import errno
import json
import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from paligemma2.errors import WorkError
from paligemma2.training import checkpointing
from paligemma2.training.checkpointing import load_newest_state, remove_states, save_state

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def some_tensors(value: float = 1.0) -> dict[str, Tensor]:
    return {
        "matrix": torch.full((30, 20), value),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "scalar": torch.tensor(value),
        "half": torch.tensor([value], dtype=torch.bfloat16),
    }


def save(folder: Path, step: int, keep: int = 2) -> Path:
    return save_state(folder, step, some_tensors(step), {"number": step, "rate": 0.1}, keep=keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(state: Path, how: str) -> None:
    tensors, manifest = state / "state.safetensors", state / "manifest.json"
    if how == "flipped bit":
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif how == "cut short":
        tensors.write_bytes(tensors.read_bytes()[:-10])
    elif how == "no tensors":
        tensors.unlink()
    elif how == "no manifest":
        manifest.unlink()
    elif how == "empty manifest":
        manifest.write_text("")
    elif how == "rows missing":
        content = json.loads(manifest.read_text())
        content["tensors"]["matrix"]["pieces"] = []
        manifest.write_text(json.dumps(content))
    elif how == "other manifest":
        manifest.write_text(json.dumps({"step": 8}))
    elif how == "binary manifest":
        manifest.write_bytes(b"\xff\xfe\x00")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: what a full disk looks like from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    assert save(folder, 7) == folder / "step-0000007"
    state = load_newest_state(folder)
    assert state is not None
    assert (state.step, state.values) == (7, {"number": 7, "rate": 0.1})
    assert state.tensors.keys() == some_tensors().keys()
    for name, tensor in some_tensors(7).items():
        assert torch.equal(state.tensors[name], tensor)
        assert state.tensors[name].dtype == tensor.dtype


def test_without_a_state_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert load_newest_state(tmp_path / "nowhere") is None
    assert load_newest_state(tmp_path) is None


def test_only_the_newest_states_are_kept_and_nothing_is_left_over(tmp_path: Path) -> None:
    for step in (4, 8, 12, 100):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-0000012", "step-0000100"]
    save(tmp_path, 101, keep=1)
    assert names(tmp_path) == ["step-0000101"]


@pytest.mark.parametrize(
    "how",
    [
        "flipped bit",
        "cut short",
        "no tensors",
        "no manifest",
        "empty manifest",
        "rows missing",
        "other manifest",
        "binary manifest",
    ],
)
def test_a_damaged_newest_state_is_passed_over_with_a_message(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 4)
    damage(save(tmp_path, 8), how)
    with caplog.at_level(logging.WARNING):
        state = load_newest_state(tmp_path)
    assert state is not None
    assert state.step == 4
    assert "step-0000008 is damaged and passed over" in caplog.text


def test_a_damaged_state_never_pushes_out_the_one_just_saved(tmp_path: Path) -> None:
    for step in (16, 20):
        damage(save(tmp_path, step), "flipped bit")
    for step in (4, 8):
        save(tmp_path, step)
        state = load_newest_state(tmp_path)
        assert state is not None
        assert state.step == step


def test_a_damaged_state_is_replaced_when_the_run_comes_there_again(tmp_path: Path) -> None:
    damage(save(tmp_path, 8), "cut short")
    save(tmp_path, 8)
    state = load_newest_state(tmp_path)
    assert state is not None
    assert state.step == 8
    assert names(tmp_path) == ["step-0000008"]


def test_a_disk_that_is_really_full_leaves_the_older_state_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 4)
    with largest_file(1000), pytest.raises(WorkError, match="could not be written") as raised:
        save(tmp_path, 8)
    assert "free some" in raised.value.hint
    assert raised.value.exit_code == 1
    assert "\n" not in str(raised.value)
    assert names(tmp_path) == ["step-0000004"]
    state = load_newest_state(tmp_path)
    assert state is not None
    assert torch.equal(state.tensors["matrix"], some_tensors(4)["matrix"])
    save(tmp_path, 8)
    assert names(tmp_path) == ["step-0000004", "step-0000008"]


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("where", ["save_file", "_sha256"])
def test_every_way_of_being_full_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    save(tmp_path, 4)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpointing, where, fail)
    with pytest.raises(WorkError) as raised:
        save(tmp_path, 8)
    assert "free some" in raised.value.hint
    assert names(tmp_path) == ["step-0000004"]


def test_a_second_ctrl_c_during_a_save_leaves_no_half_of_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 4)

    def interrupt(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpointing, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 8)
    assert names(tmp_path) == ["step-0000004"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written_is_said_to_be_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WorkError, match=os.strerror(number)) as raised:
        save(tmp_path / "run", 8)
    assert "choose another place" in raised.value.hint


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(WorkError, match="could not be written"):
        save(tmp_path / "run", 4)
    assert (tmp_path / "run").read_text() == "mine"


def test_what_a_killed_process_left_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 4)
    for name in (".step-0000008.partial-17", ".step-0000004.old-17"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        assert load_newest_state(tmp_path) is not None
    assert caplog.text.count("was left half written and is removed") == 2
    assert names(tmp_path) == ["step-0000004"]


def test_a_state_is_read_only_as_far_as_it_is_asked_for(tmp_path: Path) -> None:
    state = save(tmp_path, 4)
    opened = load_newest_state(tmp_path)
    assert opened is not None
    (state / "state.safetensors").unlink()
    assert opened.tensors.shapes["matrix"] == (30, 20)
    with pytest.raises(FileNotFoundError):
        opened.tensors["matrix"]


def test_nothing_of_a_state_is_a_pickle(tmp_path: Path) -> None:
    assert names(save(tmp_path, 4)) == ["manifest.json", "state.safetensors"]
    assert load_file(tmp_path / "step-0000004" / "state.safetensors").keys() == some_tensors().keys()


def test_removing_the_states_leaves_the_log(tmp_path: Path) -> None:
    save(tmp_path, 4)
    (tmp_path / "log.jsonl").write_text("{}\n")
    remove_states(tmp_path)
    assert names(tmp_path) == ["log.jsonl"]
    remove_states(tmp_path / "nowhere")
