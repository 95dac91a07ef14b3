from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from paligemma2.checkpoint.adapter import save_adapter
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.merging import MergedWeights
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.checkpoint.save import save_model
from tests.checkpoint.small_checkpoints import random_hugging_face_model, random_model, small_config
from tests.small_adapter import DECODER, EVERYTHING, merged, random_adapter

# `peft` asks `transformers` for what that has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def both(merged_weights: MergedWeights) -> list[dict[str, torch.Tensor]]:
    """What it gives one by one, and all in a row."""
    one_by_one = {name: merged_weights.read(name) for name in merged_weights.tensors}
    return [one_by_one, {name: tensor.clone() for name, tensor in merged_weights.stream()}]


@pytest.mark.parametrize("layers", [DECODER, EVERYTHING])
@pytest.mark.parametrize("is_rank_stabilized", [False, True])
def test_merged_weights_are_bit_for_bit_those_of_peft(
    tmp_path: Path, layers: str, is_rank_stabilized: bool
) -> None:
    theirs = random_hugging_face_model(0)
    theirs.save_pretrained(tmp_path / "base")
    config = load_model(tmp_path / "base").config
    adapter = random_adapter(config, layers, alpha=7.0, is_rank_stabilized=is_rank_stabilized)
    save_adapter(tmp_path / "a", adapter, config)
    PeftModel.from_pretrained(theirs, tmp_path / "a").merge_and_unload().save_pretrained(tmp_path / "theirs")
    expected = load_model(tmp_path / "theirs").model.state_dict()
    before = load_model(tmp_path / "base").model.state_dict()
    for found in both(MergedWeights(open_checkpoint(tmp_path / "base").weights, adapter)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, expected[name])}
    assert changed == {f"{layer}.weight" for layer in adapter.changes}


def test_sums_of_16_bits_are_rounded_by_who_writes_them_alone(tmp_path: Path) -> None:
    config = small_config()
    model = random_model(config, dtype=torch.bfloat16)
    save_model(tmp_path / "m", model, config)
    adapter = random_adapter(config)
    weights = MergedWeights(open_checkpoint(tmp_path / "m").weights, adapter)
    exact = merged(model.float(), adapter).state_dict()
    for found in both(weights):
        for name, tensor in found.items():
            is_changed = name.removesuffix(".weight") in adapter.changes
            assert tensor.dtype == (torch.float32 if is_changed else torch.bfloat16)
            torch.testing.assert_close(tensor.float(), exact[name], atol=1e-6, rtol=1e-6)
    assert {stored.dtype for stored in weights.tensors.values()} == {torch.bfloat16}


def test_the_rest_is_said_by_the_base(folder: Path) -> None:
    base = open_checkpoint(folder).weights
    weights = MergedWeights(base, random_adapter(small_config()))
    parts: list[Callable[[object], object]] = [
        lambda w: w.path,  # type: ignore[attr-defined]
        lambda w: w.layout,  # type: ignore[attr-defined]
        lambda w: w.num_zero_rows,  # type: ignore[attr-defined]
        lambda w: w.tensors,  # type: ignore[attr-defined]
    ]
    assert all(part(weights) == part(base) for part in parts)
