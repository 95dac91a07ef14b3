import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paligemma2.configuration import with_settings
from paligemma2.errors import InputError
from paligemma2.inference.loading import load
from paligemma2.jobs.transfer_config import TransferConfig
from paligemma2.jobs.transfer_plan import TransferPlan, plan
from paligemma2.model.weight_forms import stored_bytes
from paligemma2.training.recipe import Recipe
from tests.small_model import save_picture, save_small_model

NUM_IMAGE_TOKENS = 4


@pytest.fixture
def config(tmp_path: Path) -> TransferConfig:
    data = tmp_path / "data"
    for split in ("train", "valid"):
        lines = []
        for number in range(6):
            save_picture(data / f"{number}.png", seed=number)
            suffix = "a cat" if number else "a cat and a dog and another cat"
            lines.append(json.dumps({"image": f"{number}.png", "prefix": "what?", "suffix": suffix}))
        (data / f"_annotations.{split}.jsonl").write_text("\n".join(lines))
    return TransferConfig(
        model=str(save_small_model(tmp_path / "small")),
        data=data,
        output=tmp_path / "new",
        training=Recipe(steps=4, batch_size=4),
    )


def test_it_counts_the_model_the_data_and_the_longest_example(config: TransferConfig) -> None:
    planned = plan(replace(config, epochs=2))
    predictor = load(config.model, for_training=True, dtype="float32")
    count = sum(each.numel() for each in predictor.model.parameters())
    assert (planned.parameters, planned.trained) == (count, count)
    assert (planned.examples, planned.steps, planned.devices) == (6, 3, 1)
    prompt = predictor.processor.prompt_ids("what?")
    suffix = predictor.processor.suffix_ids("a cat and a dog and another cat")
    assert (planned.size.rows, planned.size.tokens) == (4, len(prompt) + len(suffix))
    assert (planned.size.images, planned.size.targets) == (4, 4 * len(suffix))
    assert planned.memory.weights == 4 * count
    assert planned.memory.optimizer == 8 * count


def total(config: TransferConfig, *settings: str, devices: int = 1) -> float:
    return plan(with_settings(config, settings), devices=devices).memory.total


def test_what_takes_less_memory_is_told_to(config: TransferConfig) -> None:
    planned = plan(config)
    changes = {each.change: each.total for each in planned.alternatives}
    assert {"lora.rank=8", "training.freeze=image", "training.optimizer=adamw_8bit", "2 devices"} <= set(
        changes
    )
    totals = list(changes.values())
    assert totals == sorted(totals, reverse=True)
    assert all(each < planned.memory.total for each in totals)
    assert changes["training.freeze=image"] == total(config, "training.freeze=image")
    assert changes["2 devices"] == total(config, devices=2)
    assert changes["lora.rank=8"] == total(config, "lora.rank=8")


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_weights_of_few_bits_are_counted_as_they_are_kept(config: TransferConfig, bits: str) -> None:
    config = with_settings(config, ["lora.rank=2", "training.precision=float32"])
    adapters = total_weights(config) - stored_bytes(
        load(config.model, for_training=True, dtype="float32").model
    )
    few = load(config.model, for_training=True, dtype="float32", quantize=bits)  # type: ignore[arg-type]
    expected = stored_bytes(few.model) + adapters
    assert total_weights(with_settings(config, [f"quantize={bits}"])) == pytest.approx(expected, rel=0.01)


def total_weights(config: TransferConfig) -> float:
    return plan(config).memory.weights


def test_packed_rows_are_as_long_as_they_are_packed(config: TransferConfig) -> None:
    size = plan(with_settings(config, ["training.packed_length=64", "training.micro_batch_size=3"])).size
    assert size.tokens == 64
    assert size.images == 3


def test_a_half_of_the_weights_below_an_adapter(
    config: TransferConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device is fast in bfloat16."""
    whole = plan(with_settings(config, ["lora.rank=2", "training.precision=float32"]))
    monkeypatch.setattr("paligemma2.jobs.transfer_config.bfloat16_is_fast", lambda device: True)
    half = plan(with_settings(config, ["lora.rank=2"]))
    assert half.memory.weights < 0.6 * whole.memory.weights


def test_nothing_is_loaded_or_written(config: TransferConfig, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    planned: TransferPlan = plan(config)
    assert sorted(tmp_path.rglob("*")) == before
    assert planned.available is None or planned.available > 0
    assert planned.device in ("cpu", "cuda")
    assert dataclasses.is_dataclass(planned)
    assert torch.get_default_dtype() == torch.float32


def test_more_devices_than_examples_of_a_batch_are_refused(config: TransferConfig) -> None:
    with pytest.raises(InputError, match="8 devices for batches of 4 examples"):
        plan(config, devices=8)
