import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from paligemma2.model import low_bit_kernel
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig
from paligemma2.model.half_linear import has_half_kernels
from paligemma2.model.low_bit import quantize
from paligemma2.model.packed_linear import PackedLinear, has_packed_kernels
from paligemma2.model.packed_table import PackedTable
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.quantized_linear import QuantizedLinear, QuantizedTable
from paligemma2.model.restored_linear import RestoredTable
from paligemma2.model.weight_forms import (
    Quantization,
    WeightForm,
    fill,
    half_form,
    is_packed,
    packed_form,
    plain_form,
    quantized_form,
    refill,
    restored_form,
    stored_bytes,
)

TABLE = "language_model.embed_tokens.weight"
UP_PROJ = "language_model.layers.0.mlp.up_proj"
ENCODER_Q = "vision_tower.encoder.layers.0.self_attn.q_proj"
FORMS = [
    pytest.param(
        half_form,
        torch.bfloat16,
        marks=pytest.mark.skipif(not has_half_kernels(), reason="this build of PyTorch has no FBGEMM"),
    ),
    pytest.param(
        lambda: packed_form(torch.float32),
        torch.float32,
        marks=pytest.mark.skipif(not has_packed_kernels(torch.float32), reason="no oneDNN kernels"),
    ),
]


@pytest.mark.parametrize(("form", "dtype"), FORMS)
def test_a_whole_model_computes_what_it_does_with_its_weights_as_they_are(
    small_model: Callable[..., PaliGemma2Model], form: Callable[[], WeightForm], dtype: torch.dtype
) -> None:
    packed = small_model().to(dtype)
    wide = copy.deepcopy(packed).float()
    # The scale of the embedding is rounded as the table is, which is part of the model.
    wide.language_model.embed = packed.language_model.embed  # type: ignore[method-assign]
    refill(packed, form(), TABLE)
    assert packed.dtype == torch.float32
    assert is_packed(packed)
    assert isinstance(packed.language_model.embed_tokens, PackedTable)
    assert not any(isinstance(module, nn.Linear) for module in packed.modules())
    ids = torch.tensor([[packed.config.image_token_id] * 4 + [2, 5, 9, 30, 10]])
    layout = PrefixLayout.from_flags(torch.ones_like(ids) > 0, torch.ones_like(ids) > 0)
    pixels = torch.rand(1, 3, 28, 28) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(
            packed(ids, pixels, layout), wide(ids, pixels, layout), atol=2e-4, rtol=1e-4
        )
        logits, cache = packed.prefill(ids, packed.encode_images(pixels), layout, 3)
        wide_logits, wide_cache = wide.prefill(ids, wide.encode_images(pixels), layout, 3)
        for _ in range(3):
            chosen = logits.argmax(-1)
            assert torch.equal(chosen, wide_logits.argmax(-1))
            logits, wide_logits = packed.step(chosen, cache), wide.step(chosen, wide_cache)


def test_weights_may_come_in_any_order(small_model: Callable[..., PaliGemma2Model]) -> None:
    source = small_model()
    with torch.device("meta"):
        model = PaliGemma2Model(source.config)
    fill(model, reversed(list(source.state_dict().items())), packed_form(torch.float32), TABLE)
    q_proj = model.vision_tower.encoder.layers[0].self_attn.q_proj
    assert isinstance(q_proj, PackedLinear)
    assert torch.equal(q_proj.bias, source.vision_tower.encoder.layers[0].self_attn.q_proj.bias)
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_a_plain_model_can_be_trained_and_holds_copies(small_model: Callable[..., PaliGemma2Model]) -> None:
    source = small_model()
    with torch.device("meta"):
        model = PaliGemma2Model(source.config)
    weights = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    fill(model, weights.items(), plain_form(torch.float32), TABLE)
    for tensor in weights.values():
        tensor.zero_()
    assert not is_packed(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name])


@pytest.mark.skipif(not has_half_kernels(), reason="this build of PyTorch has no FBGEMM")
def test_a_weight_too_large_for_float16_stays_in_float32(small_model: Callable[..., PaliGemma2Model]) -> None:
    model = small_model().bfloat16()
    model.language_model.layers[0].mlp.up_proj.weight.data[0, 0] = -1e5
    refill(model, half_form(), TABLE)
    left = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert left == ["language_model.layers.0.mlp.up_proj"]
    assert model.language_model.layers[0].mlp.up_proj.weight.dtype == torch.float32


def test_bytes_are_counted_as_they_are_kept(small_model: Callable[..., PaliGemma2Model]) -> None:
    model = small_model()
    before = stored_bytes(model)
    assert before == sum(parameter.nbytes for parameter in model.parameters())
    refill(model, packed_form(torch.float32), TABLE)
    assert stored_bytes(model) == before


def wide_config() -> ModelConfig:
    """Of widths that no kernel has to fill up."""
    return ModelConfig(
        vision=VisionConfig(
            image_size=28, patch_size=14, hidden_size=128, num_layers=2, num_heads=2, intermediate_size=256
        ),
        text=TextConfig(
            vocab_size=1024,
            hidden_size=256,
            num_layers=4,
            num_heads=4,
            num_kv_heads=2,
            head_dim=64,
            intermediate_size=512,
            query_pre_attn_scalar=64.0,
        ),
        image_token_id=1000,
    )


def wide_model(dtype: torch.dtype) -> PaliGemma2Model:
    torch.manual_seed(0)
    model = PaliGemma2Model(wide_config()).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1)
    return model.to(dtype)


@pytest.mark.parametrize("has_kernel", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("quantization", "share_off"), [("int8", 0.045), ("w8a8", 0.045), ("int4", 0.33)])
def test_a_whole_model_of_few_bits_is_near_the_one_of_many(
    monkeypatch: pytest.MonkeyPatch,
    quantization: Quantization,
    share_off: float,
    dtype: torch.dtype,
    has_kernel: bool,
) -> None:
    if not has_kernel:
        monkeypatch.setattr(low_bit_kernel, "kernel", lambda: None)
    model, low = wide_model(torch.float32), wide_model(dtype)
    refill(low, quantized_form(quantization, dtype), TABLE)
    assert is_packed(low)
    assert low.dtype == dtype
    assert not any(isinstance(module, nn.Linear) for module in low.modules())
    ids = torch.tensor([[1000] * 4 + [2, 5, 9, 30, 10]] * 2)
    layout = PrefixLayout.from_flags(torch.ones_like(ids) > 0, torch.ones_like(ids) > 0)
    pixels = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        expected = model(ids, pixels, layout)
        off = low(ids, pixels, layout) - expected
    assert float(off.norm() / expected.norm()) < share_off


@pytest.mark.parametrize("quantization", ["int8", "w8a8", "int4"])
def test_each_part_of_a_model_gets_its_bits(quantization: Quantization) -> None:
    model = wide_model(torch.bfloat16)
    before = stored_bytes(model)
    weights = {path: model.get_submodule(path).weight.detach().clone() for path in (UP_PROJ, ENCODER_Q)}
    biases = {path: model.get_submodule(path).bias for path in (UP_PROJ, ENCODER_Q)}
    blocks = sum(p.nbytes for p in model.language_model.layers.parameters() if p.dim() > 1)
    rest = sum(m.weight.nbytes for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding)) - blocks
    position = model.vision_tower.embeddings.position_embedding.weight.nbytes  # stays as it is
    refill(model, quantized_form(quantization, torch.bfloat16), TABLE)
    kept = before - blocks - (rest - position)
    expected = kept + (blocks / 4 if quantization == "int4" else blocks / 2) + (rest - position) / 2
    assert expected < stored_bytes(model) < 1.035 * expected  # scales
    for path, bits in ((UP_PROJ, 4 if quantization == "int4" else 8), (ENCODER_Q, 8)):
        low, x = quantize(weights[path], bits), torch.randn(3, weights[path].shape[1])
        x[:, 0] = 50.0  # scales of tokens suffer from it, those of groups and weights alone do not
        same = QuantizedLinear(low, biases[path], rounds_activations=quantization == "w8a8")
        made = model.get_submodule(path)(x)
        assert torch.equal(made, same(x))
        if bits == 8:
            other = QuantizedLinear(low, biases[path], rounds_activations=quantization != "w8a8")
            assert not torch.equal(made, other(x))
    assert isinstance(model.language_model.embed_tokens, QuantizedTable)
    assert model.vision_tower.encoder.layers[0].self_attn.q_proj.bias.dtype == torch.bfloat16


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_weights_of_few_bits_under_an_adapter_take_no_more_and_let_gradients_through(
    quantization: Quantization,
) -> None:
    low, trained = wide_model(torch.float32), wide_model(torch.float32)
    refill(low, quantized_form(quantization, torch.float32), TABLE)
    refill(trained, restored_form(quantization, torch.float32), TABLE)
    assert is_packed(trained)
    assert stored_bytes(trained) <= stored_bytes(low)
    assert isinstance(trained.language_model.embed_tokens, RestoredTable)
    assert not any(isinstance(module, nn.Linear) for module in trained.modules())
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    pixels = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = torch.tensor([[1000] * 4 + [2, 5, 9, 30, 10]])
    layout = PrefixLayout.from_flags(ids > 0, ids > 0)
    expected = low(ids, pixels, layout)
    with torch.enable_grad():
        pixels.requires_grad_()
        logits = trained(ids, pixels, layout)
        logits.logsumexp(-1).sum().backward()
    assert float((logits - expected).norm() / expected.norm()) < 0.05  # activations are not rounded
    assert pixels.grad is not None
    assert pixels.grad.abs().max() > 0
