import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from paligemma2.checkpoint.big_vision_npz import write_npz
from paligemma2.checkpoint.config_json import config_to_json
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.errors import CheckpointError, InputError
from tests.checkpoint.small_checkpoints import random_model, small_config


def test_a_folder_is_opened_with_its_own_configuration(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config == small_config()
    assert checkpoint.folder == checkpoint.weights.path == folder
    assert checkpoint.weights.layout == "Hugging Face (legacy)"


def test_an_npz_is_opened_with_the_configuration_beside_it(tmp_path: Path) -> None:
    config = small_config()
    state = random_model(config).state_dict()
    write_npz(tmp_path / "a.npz", config, dict.fromkeys(state, torch.float32), state.__getitem__)
    (tmp_path / "config.json").write_text(json.dumps(config_to_json(config, dtype="float32")))
    checkpoint = open_checkpoint(str(tmp_path / "a.npz"))
    assert checkpoint.config == config
    assert checkpoint.folder == tmp_path
    assert checkpoint.weights.num_zero_rows == 8


def test_a_configuration_given_wins(folder: Path) -> None:
    config = small_config(final_cap=None)
    assert open_checkpoint(folder, config).config == config


def test_the_head_is_compared_only_when_asked(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros(508, 64)
    save_file(tensors, folder / "model.safetensors")
    assert open_checkpoint(folder, compare_head=False).config == small_config()
    with pytest.raises(CheckpointError, match="unlike the embedding"):
        open_checkpoint(folder)


def test_a_source_that_is_nothing_is_told() -> None:
    with pytest.raises(InputError, match="no checkpoint at 'nowhere'"):
        open_checkpoint("nowhere")


def test_a_golden_folder_opens(golden: Callable[[str], Path]) -> None:
    assert len(open_checkpoint(golden("softcap")).weights.tensors) == 85
