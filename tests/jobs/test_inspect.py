from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from paligemma2.errors import CheckpointError
from paligemma2.jobs import convert, inspect
from tests.jobs.small_checkpoint import save_small_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_small_checkpoint(tmp_path / "hf", torch.bfloat16)


def test_a_folder_and_its_npz_are_the_same_model(tmp_path: Path, folder: Path) -> None:
    convert.run(folder, tmp_path / "bv" / "a.npz")
    ours, theirs = inspect.run(folder), inspect.run(tmp_path / "bv" / "a.npz")
    assert ours.fingerprint == theirs.fingerprint
    assert (ours.layout, theirs.layout) == ("Hugging Face (legacy)", "big_vision npz")
    assert (ours.num_zero_rows, theirs.num_zero_rows) == (0, 8)
    assert ours.tensors.num_parameters - theirs.tensors.num_parameters == 8 * 32


def test_the_facts_of_a_folder(folder: Path) -> None:
    facts = inspect.run(folder, fingerprint=False)
    assert facts.fingerprint is None
    assert facts.variant.startswith("custom-28")
    assert (facts.resolution, facts.num_image_tokens, facts.dtype) == (28, 4, "bfloat16")
    assert sum(facts.tensors.parameters.values()) == facts.tensors.num_parameters
    assert facts.tensors.parameters["embedding"] == 108 * 32


def test_progress_is_told(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    inspect.run(folder, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1]


def test_a_folder_that_does_not_fit_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.popitem()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="1 missing"):
        inspect.run(folder)
