from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from paligemma2.model import recomputed_attention as module
from paligemma2.model.gemma2 import grouped_attention
from paligemma2.model.prefix_mask import PrefixLayout, Span
from paligemma2.model.recomputed_attention import recomputed_attention

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
SEGMENTS = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]])
IS_PREFIX = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]).bool()
LAYOUT = PrefixLayout.from_segments(SEGMENTS, IS_PREFIX)


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


def projections(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, heads, 10, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    return [2 * torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def compare(ours: Tensor, plain: Tensor, given: list[Tensor], asked: Tensor) -> None:
    """Values and gradients where they are asked for."""
    torch.testing.assert_close(ours[asked], plain[asked], rtol=1e-5, atol=1e-5)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)) * asked[..., None]
    wanted = torch.autograd.grad(plain, given, direction)
    for a, b in zip(torch.autograd.grad(ours, given, direction), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize("chunk", [4 * HEADS * 10 * 10 * 2, 4 * HEADS * 10 * 10, 4 * HEADS * 10 * 3, 1])
def test_values_and_gradients_are_those_of_plain_autograd(
    monkeypatch: pytest.MonkeyPatch, cap: float | None, window: int | None, by_example: bool, chunk: int
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", {"cpu": chunk})
    given, mask = leaves(projections()), LAYOUT.dense(window)
    spans = LAYOUT.spans if by_example else None
    ours = recomputed_attention(*given, mask, spans, scale=0.3, cap=cap)
    compare(ours, grouped_attention(*given, mask, scale=0.3, cap=cap), given, LAYOUT.is_valid)


def test_without_a_mask_everything_is_seen() -> None:
    given = leaves(projections())
    everywhere = torch.ones(2, 10, dtype=torch.bool)
    ours = recomputed_attention(*given, None, scale=0.3, cap=None)
    compare(ours, grouped_attention(*given, None, scale=0.3, cap=None), given, everywhere)


@pytest.mark.parametrize("chunk", [2**20, 1])
def test_some_tokens_alone_get_what_they_get_among_all(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", {"cpu": chunk})
    given, mask = leaves(projections()), LAYOUT.dense()
    wanted = (Span(0, 1, 3), Span(0, 4, 4), Span(1, 4, 7))
    asked = torch.zeros(2, 10, dtype=torch.bool)
    for row, start, stop in wanted:
        asked[row, start:stop] = True
    q, k, v = given
    some = q.transpose(1, 2)[asked][None].transpose(1, 2)
    ours = recomputed_attention(some, k, v, mask, LAYOUT.spans, wanted, scale=0.3, cap=3.0)
    plain = grouped_attention(q, k, v, mask, scale=0.3, cap=3.0)
    placed = torch.zeros_like(plain).masked_scatter(asked[..., None], ours)
    compare(placed, plain, given, asked)


def test_gradients_are_slopes() -> None:
    given = leaves(projections(torch.float64))

    def attend(*projected: Tensor) -> Tensor:
        attended = recomputed_attention(*projected, LAYOUT.dense(), LAYOUT.spans, scale=0.3, cap=3.0)
        return attended[LAYOUT.is_valid]

    assert torch.autograd.gradcheck(attend, given)


def test_under_autocast_products_are_in_bfloat16() -> None:
    given = leaves(projections())
    exact = grouped_attention(*given, LAYOUT.dense(), scale=0.3, cap=3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = recomputed_attention(*given, LAYOUT.dense(), scale=0.3, cap=3.0)
    assert ours.dtype == torch.bfloat16
    assert (ours - exact)[LAYOUT.is_valid].abs().max() < 0.05
    assert torch.autograd.grad(ours.float().sum(), given)[0].dtype == torch.float32
