from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paligemma2.model import gemma2, recomputed


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


def plain_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), 1.0 + weight, 1e-6)


def plain_gelu(gate: Tensor, up: Tensor) -> Tensor:
    return F.gelu(gate, approximate="tanh") * up


def angles(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    cos, sin = gemma2.rotary_angles(torch.arange(5)[None] + 7, 8, 10000.0)
    return cos.to(dtype), sin.to(dtype)


def turn(rotation: Callable[..., Tensor], x: Tensor) -> Tensor:
    return rotation(x, *angles(x.dtype))


PAIRS = {
    "norm": (lambda x, w: recomputed.rms_norm(x, w, 1e-6), plain_norm, [(2, 5, 8), (8,)]),
    "gelu": (recomputed.gated_gelu, plain_gelu, [(2, 5, 8), (2, 5, 8)]),
    "rotation": (
        lambda x: turn(recomputed.rotate, x),
        lambda x: turn(gemma2.rotate, x),
        [(2, 3, 5, 8)],
    ),
}


def inputs(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_are_those_of_plain_autograd(name: str) -> None:
    ours, plain, shapes = PAIRS[name]
    given = inputs(shapes, torch.float32)
    results = ours(*given), plain(*given)
    torch.testing.assert_close(*results)
    direction = torch.randn(results[0].shape, generator=torch.Generator().manual_seed(1))
    for a, b in zip(*(torch.autograd.grad(each, given, direction) for each in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_slopes(name: str) -> None:
    ours, _, shapes = PAIRS[name]
    assert torch.autograd.gradcheck(ours, inputs(shapes, torch.float64))


def test_norms_come_in_the_dtype_of_products() -> None:
    x, weight = inputs([(3, 8), (8,)], torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = recomputed.rms_norm(x, weight, 1e-6)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, recomputed.rms_norm(x, weight, 1e-6).bfloat16())


def test_a_rotation_keeps_the_dtype_and_computes_in_that_of_the_angles() -> None:
    (x,) = inputs([(2, 3, 5, 8)], torch.bfloat16)
    turned = recomputed.rotate(x, *angles(torch.float32))
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, gemma2.rotate(x.float(), *angles(torch.float32)).bfloat16())


def test_frozen_weights_get_no_gradient() -> None:
    x, weight = inputs([(3, 8), (8,)], torch.float32)
    recomputed.rms_norm(x, weight.detach(), 1e-6).sum().backward()
    assert x.grad is not None
    assert weight.grad is None
