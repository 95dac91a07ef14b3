import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paligemma2.model import half_linear
from paligemma2.model.half_linear import HalfEmbedding, HalfLinear, has_half_kernels, to_half_linear
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout

needs_kernels = pytest.mark.skipif(not has_half_kernels(), reason="this build of PyTorch has no FBGEMM")


@needs_kernels
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 40), (7, 40), (2, 3, 40)])
def test_bfloat16_weights_are_used_without_rounding(shape: tuple[int, ...], has_bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(40, 56, bias=has_bias).bfloat16()
    x = torch.randn(shape)
    expected = F.linear(x, linear.weight.float(), linear.bias.float() if has_bias else None)
    with torch.inference_mode():
        torch.testing.assert_close(HalfLinear(linear)(x), expected, atol=1e-5, rtol=1e-5)
        strided = torch.randn(*shape[:-1], 80)[..., ::2]
        assert HalfLinear(linear)(strided).shape == (*shape[:-1], 56)


@needs_kernels
@torch.inference_mode()
def test_a_table_gives_its_rows_and_the_product_with_all_of_them() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(2500, 12).bfloat16()  # three blocks
    half = HalfEmbedding(table)
    ids = torch.tensor([[0, 1023, 1024], [2499, 7, 7]])
    for _ in range(2):  # the second time they are remembered
        assert torch.equal(half(ids), table(ids))
    hidden = torch.randn(2, 3, 12)
    expected = F.linear(hidden, table.weight.float())
    torch.testing.assert_close(half.logits(hidden), expected, atol=1e-5, rtol=1e-5)


@needs_kernels
@torch.inference_mode()
def test_the_rows_that_are_remembered_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_linear, "_KEPT_ROWS", 5)
    table = nn.Embedding(64, 4).bfloat16()
    half = HalfEmbedding(table)
    for start in range(0, 60, 4):
        ids = torch.tensor([start, start + 1, start + 2, start + 3, 0])
        assert torch.equal(half(ids), table(ids))
        assert len(half._kept) < 16


@needs_kernels
@torch.inference_mode()
def test_a_whole_model_computes_what_it_does_with_the_same_weights_in_float32(
    small_model: Callable[..., PaliGemma2Model],
) -> None:
    half = small_model().bfloat16()
    wide = copy.deepcopy(half).float()
    # The scale of the embedding is rounded as the table is, which is part of the model.
    wide.language_model.embed = half.language_model.embed  # type: ignore[method-assign]
    expected_embedding = half.language_model.embed(torch.tensor([[5, 7]]))
    to_half_linear(half, "language_model.embed_tokens")
    assert half.dtype == torch.float32
    assert isinstance(half.language_model.embed_tokens, HalfEmbedding)
    assert not any(isinstance(module, nn.Linear) for module in half.modules())
    torch.testing.assert_close(half.language_model.embed(torch.tensor([[5, 7]])), expected_embedding.float())
    ids = torch.tensor([[half.config.image_token_id] * 4 + [2, 5, 9, 30, 10]])
    layout = PrefixLayout.from_flags(torch.ones_like(ids) > 0, torch.ones_like(ids) > 0)
    pixels = torch.rand(1, 3, 28, 28) * 2 - 1
    torch.testing.assert_close(half(ids, pixels, layout), wide(ids, pixels, layout), atol=2e-4, rtol=1e-4)
    logits, cache = half.prefill(ids, half.encode_images(pixels), layout, 3)
    wide_logits, wide_cache = wide.prefill(ids, wide.encode_images(pixels), layout, 3)
    assert cache.keys.dtype == torch.float32
    for _ in range(3):
        chosen = logits.argmax(-1)
        assert torch.equal(chosen, wide_logits.argmax(-1))
        logits, wide_logits = half.step(chosen, cache), wide.step(chosen, wide_cache)
