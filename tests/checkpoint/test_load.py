import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.layouts import expected_shapes, stored_name
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.safetensors_writer import SafetensorsWriter
from paligemma2.checkpoint.save import save_model, write_settings
from paligemma2.checkpoint.weights import StoredTensor
from paligemma2.errors import CheckpointError, ConfigError
from paligemma2.model.config import PRESETS
from tests.checkpoint.small_checkpoints import (
    our_logits,
    random_hugging_face_model,
    random_model,
    small_config,
    their_logits,
)


@pytest.mark.parametrize("seed", range(4))
def test_a_folder_of_transformers_gives_the_same_logits(tmp_path: Path, seed: int) -> None:
    theirs = random_hugging_face_model(seed)
    theirs.save_pretrained(tmp_path / "m", max_shard_size="200KB")
    loaded = load_model(tmp_path / "m")
    expected = their_logits(theirs, loaded.config)
    torch.testing.assert_close(our_logits(loaded.model), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("variant", ["softcap", "nosoftcap"])
def test_the_golden_folder_loads(golden: Callable[[str], Path], variant: str) -> None:
    loaded = load_model(golden(variant))
    assert loaded.report.layout == "Hugging Face (new)"
    assert loaded.report.num_zero_rows == 0


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    config = small_config()
    model = random_model(config, dtype=torch.bfloat16)
    save_model(tmp_path / "m", model, config, max_shard_size=50_000)
    loaded = load_model(tmp_path / "m")
    assert loaded.config == config
    assert loaded.folder == tmp_path / "m"
    assert loaded.report.stored_dtype is torch.bfloat16
    assert not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


def test_the_dtype_asked_for_is_the_dtype_of_all(folder: Path) -> None:
    model = load_model(folder, dtype=torch.bfloat16).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_loading_tells_how_far_it_is(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = load_model(folder, on_progress=lambda done, total: calls.append((done, total))).report
    assert calls == sorted(calls)
    assert calls[-1] == (report.num_bytes, report.num_bytes)
    assert len(calls) == report.num_tensors


def test_a_configuration_of_ones_own_is_used_and_checked(folder: Path) -> None:
    config = small_config(sliding_window=None)
    assert load_model(folder, config=config).config == config
    with pytest.raises(CheckpointError, match="with a wrong shape"):
        load_model(folder, config=small_config(hidden_size=32))


def test_a_folder_without_config_json_says_so(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read: No such file"):
        load_model(folder)


def test_a_folder_of_another_model_says_so(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="model_type is 'llama'"):
        load_model(folder)


MEASURE = """
import json, sys
import torch
from paligemma2.checkpoint.load import load_model

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

torch.set_num_threads(1)
baseline = status("VmRSS")
report = load_model(sys.argv[1]).report
print(json.dumps({"baseline": baseline, "peak": status("VmHWM"), "model": report.num_bytes}))
"""
# Headers, the empty model and the allocator's own pages.
ALLOWANCE = 64 * 2**20


def write_random_3b(folder: Path) -> None:
    """A folder of the real 3B shape in shards of 2 GB; the numbers repeat: drawing 3 billion is slow."""
    config = PRESETS["paligemma2-3b-pt-224"]
    plan = {
        stored_name(name, "legacy"): StoredTensor(shape, torch.bfloat16)
        for name, shape in expected_shapes(config).items()
    }
    write_settings(folder, config, dtype=torch.bfloat16, files_from=None)
    block = (torch.randn(2**22, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    with SafetensorsWriter(folder, plan, max_shard_size=2 * 10**9) as writer:
        for name, tensor in plan.items():
            numbers = block.repeat(-(-tensor.size // len(block)))[: tensor.size]
            writer.write(name, numbers.view(tensor.shape))


@pytest.mark.slow
def test_loading_the_3b_needs_memory_for_the_model_and_one_shard(tmp_path: Path) -> None:
    write_random_3b(tmp_path)
    shards = [path.stat().st_size for path in tmp_path.glob("model-*.safetensors")]
    assert len(shards) >= 3
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured = json.loads(printed)
    sys.stdout.write(f"{measured} largest shard {max(shards)}\n")
    assert measured["model"] == 2 * 3_032_242_416
    assert measured["peak"] <= measured["baseline"] + measured["model"] + max(shards) + ALLOWANCE
    for path in tmp_path.iterdir():
        path.unlink()  # pytest would keep 6 GB of three runs
