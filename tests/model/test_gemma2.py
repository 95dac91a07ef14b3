import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paligemma2.errors import ConfigError
from paligemma2.model import gemma2
from paligemma2.model.config import TextConfig
from paligemma2.model.gemma2 import GemmaDecoder, RMSNorm, grouped_attention, rotary_angles, rotate, soft_cap
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class NewMemory(TorchDispatchMode):
    """Records how many bytes every operation reserves beyond its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if isinstance(x, Tensor)}
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.sizes.append(x.untyped_storage().nbytes())
        return result


def expanded_attention(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float, cap: float | None
) -> Tensor:
    """The same attention with keys and values repeated for every query head."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    logits = torch.einsum("bhqd,bhkd->bhqk", q, k) * scale
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    weights = logits.masked_fill(~visible, -1e30).softmax(-1)
    return torch.einsum("bhqk,bhkd->bqhd", weights, v).flatten(2)


@pytest.mark.parametrize("cap", [None, 1.5, 50.0])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (6, 3), (5, 1)])
def test_grouped_attention_equals_the_expanded_computation(
    heads: int, kv_heads: int, cap: float | None
) -> None:
    q, k, v = random(2, heads, 5, 8), random(2, kv_heads, 9, 8, seed=1), random(2, kv_heads, 9, 8, seed=2)
    visible = random(2, 1, 5, 9, seed=3) > 0
    visible[..., 0] = True
    mine = grouped_attention(q, k, v, visible, scale=0.7, cap=cap)
    assert mine.shape == (2, 5, heads * 8)
    torch.testing.assert_close(mine, expanded_attention(q, k, v, visible, 0.7, cap), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seq", [1, 30])
@pytest.mark.parametrize("mask", ["none", "one for all queries", "one per query"])
def test_a_long_prompt_is_read_in_chunks_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, seq: int, mask: str
) -> None:
    q, k, v = random(2, 4, seq, 8), random(2, 2, 30, 8, seed=1), random(2, 2, 30, 8, seed=2)
    visible = random(2, 1, 1 if mask == "one for all queries" else seq, 30, seed=3) > 0
    given = None if mask == "none" else visible
    whole = grouped_attention(q, k, v, given, scale=0.7, cap=50.0)
    monkeypatch.setattr(gemma2, "ATTENTION_CHUNK_BYTES", 4 * 2 * 4 * 30 * 7)  # 7 queries at a time
    with NewMemory() as memory:
        chunked = grouped_attention(q, k, v, given, scale=0.7, cap=50.0)
    torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=0)
    assert max(memory.sizes) <= max(gemma2.ATTENTION_CHUNK_BYTES, q.nbytes)


def test_no_mask_is_a_mask_that_lets_everything_through() -> None:
    q, k, v = random(2, 4, 5, 8), random(2, 2, 9, 8, seed=1), random(2, 2, 9, 8, seed=2)
    everything = torch.ones(2, 1, 5, 9, dtype=torch.bool)
    expected = grouped_attention(q, k, v, everything, scale=0.7, cap=50.0)
    assert torch.equal(grouped_attention(q, k, v, None, scale=0.7, cap=50.0), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seq", [1, 3])
def test_grouped_attention_never_expands_keys(seq: int, dtype: torch.dtype) -> None:
    batch, heads, kv_heads, keys, head_dim = 2, 8, 2, 37, 32
    q = random(batch, heads, seq, head_dim).to(dtype)
    stored = random(2, batch, kv_heads, keys + 5, head_dim).to(dtype)
    k, v = stored[0, :, :, :keys], stored[1, :, :, :keys]  # views, as the cache gives them
    visible = torch.ones(batch, 1, seq, keys, dtype=torch.bool)
    expanded_bytes = batch * heads * keys * head_dim * dtype.itemsize
    with NewMemory() as memory:
        grouped_attention(q, k, v, visible, scale=1.0, cap=50.0)
    assert memory.sizes
    assert max(memory.sizes) < expanded_bytes
    with NewMemory() as memory:
        expanded_attention(q, k, v, visible, 1.0, 50.0)
    assert max(memory.sizes) >= expanded_bytes, "the instrument sees nothing"


def test_a_decoding_step_never_expands_keys(small_model: Callable[..., PaliGemma2Model]) -> None:
    model = small_model(num_heads=8, num_kv_heads=2, head_dim=16, vocab_size=160)
    text = model.config.text
    seq = 60
    is_valid = torch.ones(1, seq, dtype=torch.bool)
    layout = PrefixLayout.from_flags(is_valid, is_valid)
    _, cache = model.prefill(torch.full((1, seq), 7), None, layout, max_new_tokens=2)
    with NewMemory() as memory:
        model.step(torch.tensor([9]), cache)
    assert max(memory.sizes) < text.num_heads * seq * text.head_dim * 4


def test_a_query_that_sees_nothing_gives_numbers() -> None:
    visible = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    x = random(1, 2, 3, 4)
    assert grouped_attention(x, x, x, visible, scale=1.0, cap=None).isfinite().all()


def test_the_soft_cap_squashes_into_its_range_and_keeps_order() -> None:
    logits = torch.tensor([-1e4, -3.0, 0.0, 0.01, 3.0, 1e4])
    capped = soft_cap(logits, 5.0)
    torch.testing.assert_close(capped, 5.0 * torch.tanh(logits / 5.0))
    assert capped.abs().max() <= 5.0
    assert (capped.diff() > 0).all()
    assert soft_cap(logits, None) is logits


@pytest.mark.parametrize("cap", [0.0, -1.0])
def test_a_soft_cap_must_be_positive(cap: float) -> None:
    with pytest.raises(ConfigError, match="is not positive"):
        soft_cap(torch.zeros(1), cap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_multiplies_by_one_plus_its_weight_in_float32(dtype: torch.dtype) -> None:
    norm = RMSNorm(16, eps=1e-3).to(dtype)
    norm.weight.copy_(random(16, seed=1) * 0.3)
    x = (random(2, 3, 16) * 4).to(dtype)
    wide, weight = x.double(), norm.weight.double()
    expected = wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-3).rsqrt() * (1 + weight)
    assert norm(x).dtype == dtype
    torch.testing.assert_close(
        norm(x), expected.to(dtype), atol=2e-6, rtol=2e-6 if dtype.itemsize == 4 else 8e-3
    )


def test_a_new_norm_changes_only_the_length() -> None:
    x = random(2, 16)
    torch.testing.assert_close(RMSNorm(16, eps=1e-6)(x), F.rms_norm(x, (16,), eps=1e-6))


def test_rotary_positions_are_relative() -> None:
    q, k = random(1, 1, 1, 8), random(1, 1, 1, 8, seed=1)

    def product(query: int, key: int) -> float:
        turned = (
            rotate(x, *rotary_angles(torch.tensor([[at]]), 8, 100.0)) for x, at in ((q, query), (k, key))
        )
        a, b = turned
        return float((a * b).sum())

    assert product(9, 4) == pytest.approx(product(6, 1), abs=1e-5)
    assert product(9, 4) != pytest.approx(product(4, 9), abs=1e-2)


def test_rotary_positions_pair_the_halves() -> None:
    x = torch.zeros(1, 1, 1, 6)
    x[..., 1] = 1.0
    turned = rotate(x, *rotary_angles(torch.tensor([[3]]), 6, 1000.0)).flatten()
    angle = 3 * 1000.0 ** (-2 / 6)
    expected = torch.tensor([0, math.cos(angle), 0, 0, math.sin(angle), 0])
    torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


def thin_decoder(hidden_size: int, **fields: Any) -> GemmaDecoder:
    config = TextConfig(
        vocab_size=8,
        hidden_size=hidden_size,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=2,
        intermediate_size=1,
        **fields,
    )
    decoder = GemmaDecoder(config)
    decoder.embed_tokens.weight.fill_(1.0)
    return decoder


@pytest.mark.parametrize(("hidden_size", "rounded"), [(2304, 48.0), (3584, 59.75), (4608, 68.0)])
def test_the_embedding_scale_is_rounded_to_the_dtype_of_the_weights(hidden_size: int, rounded: float) -> None:
    ids = torch.tensor([[3]])
    exact = thin_decoder(hidden_size).embed(ids)
    torch.testing.assert_close(exact, torch.full_like(exact, math.sqrt(hidden_size)), rtol=1e-7, atol=0)
    assert thin_decoder(hidden_size).bfloat16().embed(ids).unique().tolist() == [rounded]


def test_the_embedding_scale_can_stay_exact_in_bfloat16() -> None:
    values = 1 + torch.arange(3584) % 128 / 128  # exact in bfloat16
    for is_rounded, scale in ((True, 59.75), (False, math.sqrt(3584))):
        decoder = thin_decoder(3584, round_embedding_scale=is_rounded).bfloat16()
        decoder.embed_tokens.weight.copy_(values)
        assert torch.equal(decoder.embed(torch.tensor([[3]]))[0, 0], (values * scale).bfloat16())
    assert not torch.equal((values * 59.75).bfloat16(), (values * math.sqrt(3584)).bfloat16())


def test_the_embedding_scale_can_be_given() -> None:
    assert thin_decoder(16, embedding_scale=3.0).embed(torch.tensor([[3]])).unique().tolist() == [3.0]


@pytest.mark.parametrize("cap", [None, 0.5])
def test_output_logits_are_the_embedding_times_the_hidden_state_then_capped(cap: float | None) -> None:
    decoder = thin_decoder(16, final_cap=cap)
    decoder.embed_tokens.weight.copy_(random(8, 16))
    hidden = random(2, 3, 16, seed=1)
    plain = hidden @ decoder.embed_tokens.weight.T
    expected = plain if cap is None else cap * torch.tanh(plain / cap)
    torch.testing.assert_close(decoder.logits(hidden), expected)
    assert decoder.bfloat16().logits(hidden.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    "change",
    [
        {"attention_cap": None},
        {"attention_cap": 5.0},
        {"final_cap": None},
        {"query_pre_attn_scalar": 12.0},
        {"sliding_window": 3},
        {"rope_theta": 100.0},
        {"rms_norm_eps": 1.0},
        {"embedding_scale": 2.0},
    ],
)
def test_every_setting_reaches_the_logits(
    small_model: Callable[..., PaliGemma2Model], change: dict[str, Any]
) -> None:
    is_valid = torch.ones(1, 12, dtype=torch.bool)
    layout = PrefixLayout.from_flags(is_valid, torch.arange(12)[None] < 6)
    ids = torch.randint(3, 140, (1, 12), generator=torch.Generator().manual_seed(2))
    before, after = (small_model(**fields)(ids, None, layout) for fields in ({}, change))
    assert (before - after).abs().max() > 0.02


def test_windows_apply_only_to_sliding_layers(small_model: Callable[..., PaliGemma2Model]) -> None:
    is_valid = torch.ones(1, 12, dtype=torch.bool)
    layout = PrefixLayout.from_flags(is_valid, torch.arange(12)[None] < 2)
    ids = torch.randint(3, 140, (1, 12), generator=torch.Generator().manual_seed(2))
    full = small_model()(ids, None, layout)
    never = small_model(sliding_window=3, sliding_layers=(False,) * 4)(ids, None, layout)
    first, last = (
        small_model(sliding_window=3, sliding_layers=layers)(ids, None, layout)
        for layers in ((True, False, False, False), (False, False, False, True))
    )
    assert torch.equal(full, never)
    assert (first - full).abs().max() > 0.01
    assert (last - full).abs().max() > 0.01
    assert (first - last).abs().max() > 0.01
