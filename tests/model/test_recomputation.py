from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from paligemma2.model.config import Recomputation
from paligemma2.model.lora import LoraLinear, using_adapters
from paligemma2.model.recomputation import run_block


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 6, bias=False)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.second(torch.dropout(torch.tanh(self.first(x)), 0.3, True))


class Products(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


def run(recomputation: Recomputation) -> tuple[list[Tensor], int, int]:
    """Output and gradients, how often the block was run, and how many products were computed."""
    torch.manual_seed(0)
    block, x = Block(), torch.randn(4, 6, requires_grad=True)
    with Products() as products:
        y = run_block(block, recomputation, x)
        y.square().sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in block.parameters())]
    return [y.detach(), *(each for each in gradients if each is not None)], block.calls, products.count


@pytest.mark.parametrize("recomputation", get_args(Recomputation))
def test_gradients_and_dropout_do_not_depend_on_it(recomputation: Recomputation) -> None:
    for a, b in zip(run(recomputation)[0], run("none")[0], strict=True):
        assert torch.equal(a, b)


def test_a_selective_block_computes_again_but_for_products() -> None:
    _, plain_calls, plain_products = run("none")
    _, selective_calls, selective_products = run("selective")
    _, full_calls, full_products = run("full")
    assert (plain_calls, selective_calls, full_calls) == (1, 2, 2)
    assert plain_products == selective_products < full_products


def test_without_gradients_nothing_is_prepared() -> None:
    block = Block()
    with torch.no_grad():
        run_block(block, "full", torch.randn(4, 6))
    assert block.calls == 1


@pytest.mark.parametrize("recomputation", ["selective", "full"])
def test_what_is_computed_again_goes_through_the_same_adapters(recomputation: Recomputation) -> None:
    torch.manual_seed(0)
    layer, x = LoraLinear(nn.Linear(6, 5)), torch.randn(4, 6, requires_grad=True)
    layer.add("new", torch.randn(2, 6), torch.randn(5, 2), 0.5)
    gradients = []
    for each in ("none", recomputation):
        with using_adapters(["new"], x.device):
            y = run_block(layer, each, x)  # type: ignore[arg-type]
        gradients.append(torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
        assert a.any()
