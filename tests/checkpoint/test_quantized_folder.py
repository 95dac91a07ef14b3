import json
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.checkpoint.quantized_folder import (
    bits_of_weights,
    check_quantization,
    lower,
    mark,
    quantization_of,
    raise_again,
    scale_of,
    stored_tensors,
)
from paligemma2.checkpoint.safetensors_files import SINGLE_FILE
from paligemma2.checkpoint.weights import StoredTensor
from paligemma2.errors import CheckpointError, InputError
from paligemma2.jobs.convert import run as convert
from paligemma2.model import low_bit_kernel
from paligemma2.model.low_bit import LowBits, quantize, restore
from tests.small_model import save_small_model, small_config

KINDS = ("int8", "int4", "w8a8")
BLOCK = "language_model.layers.0.mlp.up_proj.weight"
ENCODER = "vision_tower.encoder.layers.0.mlp.fc1.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("whole") / "model")


def test_only_the_decoders_blocks_have_4_bits() -> None:
    for kind, block in (("int8", 8), ("int4", 4), ("w8a8", 8)):
        bits = bits_of_weights(small_config(), kind)  # type: ignore[arg-type]
        assert bits[BLOCK] == block
        assert bits[ENCODER] == bits["language_model.embed_tokens.weight"] == 8
        assert "language_model.norm.weight" not in bits
        assert "vision_tower.embeddings.patch_embedding.weight" not in bits


@pytest.mark.parametrize("bits", [8, 4])
def test_a_weight_comes_back_as_it_was_rounded(bits: int) -> None:
    weight = torch.randn(6, 200)
    known = {"a.weight": bits}
    stored = dict(lower("a.weight", weight, known))  # type: ignore[arg-type]
    planned = stored_tensors({"a.weight": StoredTensor((6, 200), torch.float32)}, known)  # type: ignore[arg-type]
    assert {name: (tuple(t.shape), t.dtype) for name, t in stored.items()} == {
        name: (t.shape, t.dtype) for name, t in planned.items()
    }
    assert list(stored) == ["a.weight", scale_of("a.weight")] == ["a.weight", "a.weight_scale"]
    for order in (stored.items(), reversed(list(stored.items()))):
        ((name, low),) = raise_again(order, known)  # type: ignore[arg-type]
        assert name == "a.weight"
        assert isinstance(low, LowBits)
        assert torch.equal(restore(low), restore(quantize(weight, bits)))  # type: ignore[arg-type]


def test_other_tensors_pass_as_they_are() -> None:
    bias = torch.randn(3)
    assert list(lower("a.bias", bias, {"a.weight": 8})) == [("a.bias", bias)]
    assert list(raise_again([("a.bias", bias)], {"a.weight": 8})) == [("a.bias", bias)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_model_equals_one_that_is_rounded_while_it_is_read(
    whole: Path, tmp_path: Path, kind: str
) -> None:
    from paligemma2.inference.loading import load

    report = convert(whole, tmp_path / "low", quantize=kind)  # type: ignore[arg-type]
    assert report.dtype == kind == quantization_of(tmp_path / "low")
    assert quantization_of(whole) is None
    picture = torch.zeros(28, 28, 3, dtype=torch.uint8).numpy()
    stored = load(tmp_path / "low", device="cpu").generate(picture, "caption en", 6)
    rounded = load(whole, device="cpu", quantize=kind).generate(picture, "caption en", 6)  # type: ignore[arg-type]
    assert stored[0].token_ids == rounded[0].token_ids
    assert stored[0].log_probs == rounded[0].log_probs
    size = (tmp_path / "low" / SINGLE_FILE).stat().st_size
    assert size < 0.5 * (whole / SINGLE_FILE).stat().st_size


@pytest.mark.parametrize("has_own_kernel", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_stored_model_stays_mapped(
    whole: Path, tmp_path: Path, kind: str, has_own_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_own_kernel:
        monkeypatch.setattr(low_bit_kernel, "kernel", lambda: None)
    convert(whole, tmp_path / "low", quantize=kind)  # type: ignore[arg-type]
    loaded = load_model(tmp_path / "low", may_be_quantized=True)
    assert loaded.quantization == kind
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_a_quantised_folder_can_be_neither_changed_nor_stored_again(whole: Path, tmp_path: Path) -> None:
    convert(whole, tmp_path / "low", quantize="int8")
    for use in (
        lambda: open_checkpoint(tmp_path / "low"),
        lambda: convert(tmp_path / "low", tmp_path / "other"),
        lambda: load_model(tmp_path / "low"),
    ):
        with pytest.raises(InputError, match="holds int8 weights, which cannot be changed or stored again"):
            use()


def test_a_damaged_quantised_folder_is_refused(whole: Path, tmp_path: Path) -> None:
    convert(whole, tmp_path / "low", quantize="int8")
    mark(tmp_path / "low", "int4")
    with pytest.raises(CheckpointError, match="with a wrong shape"):
        load_model(tmp_path / "low", may_be_quantized=True)
    config = json.loads((tmp_path / "low" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "low" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="quantization_config is") as raised:
        load_model(tmp_path / "low", may_be_quantized=True)
    assert "not quantised" in raised.value.hint


def test_whole_weights_under_a_mark_are_refused(whole: Path, tmp_path: Path) -> None:
    convert(whole, tmp_path / "copy")
    mark(tmp_path / "copy", "int8")
    with pytest.raises(CheckpointError, match="not of 8 bits"):
        load_model(tmp_path / "copy", may_be_quantized=True)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="quantize is 'int3'") as raised:
        check_quantization("int3")  # type: ignore[arg-type]
    assert raised.value.hint == "use one of int8, int4, w8a8"
