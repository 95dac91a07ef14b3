import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from paligemma2.model.half_linear import HalfLinear, has_half_kernels
from paligemma2.model.lora import (
    Adapter,
    LoraLinear,
    LowRank,
    adapter_names,
    attach,
    base_parameters,
    in_pieces_using,
    using_adapters,
)
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import finish
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.weight_forms import half_form, refill
from tests.small_adapter import DECODER, EVERYTHING, merged, random_adapter

CPU = torch.device("cpu")
NAMES = (None, "first", "second", "first", None)


class Doubling(nn.Module):
    """A layer without a weight."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, x), dim=-1)


def layer(base: nn.Module, rank: int = 2) -> LoraLinear:
    """6 numbers in, 12 out, two adapters."""
    torch.manual_seed(0)
    lora = LoraLinear(base)
    lora.add("first", torch.randn(rank, 6), torch.randn(12, rank), 0.5)
    lora.add("second", torch.randn(rank, 6), torch.randn(12, rank), 3.0)
    return lora


def bases() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    linear = nn.Linear(6, 12)
    made: dict[str, nn.Module] = {"linear": linear, "without a weight": Doubling()}
    if has_half_kernels():
        made["packed"] = HalfLinear(linear)
    return made


@pytest.mark.parametrize("base", bases().values(), ids=bases())
@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6), (5, 2, 3, 6)])
@torch.inference_mode()
def test_every_row_goes_through_its_own_adapter_or_none(base: nn.Module, shape: tuple[int, ...]) -> None:
    lora, x = layer(base), torch.randn(shape)
    plain = base(x)
    with using_adapters(NAMES, CPU):
        y = lora(x)
    for row, name in enumerate(NAMES):
        if name is None:
            assert torch.equal(y[row], plain[row])
            continue
        place = lora.adapters.index(name)
        change = x[row] @ lora.lora_a[place].T @ lora.lora_b[place].T * (0.5, 3.0)[place]
        torch.testing.assert_close(y[row], plain[row] + change, atol=1e-5, rtol=1e-5)
        assert (y[row] - plain[row]).abs().max() > 0.1
    assert torch.equal(lora(x), plain)


@torch.inference_mode()
def test_rows_that_all_use_one_adapter_cost_one_pair_of_products_and_others_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lora, x, products = layer(Doubling()), torch.randn(5, 3, 6), []
    linear = nn.functional.linear
    monkeypatch.setattr(
        nn.functional, "linear", lambda x, w: products.append((len(x), tuple(w.shape))) or linear(x, w)
    )
    for names, expected in (
        (["first"] * 5, [(5, (2, 6)), (5, (12, 2))]),
        ([None] * 5, []),
        (["of other layers"] * 5, []),
        (NAMES, [(2, (2, 6)), (2, (12, 2)), (1, (2, 6)), (1, (12, 2))]),
    ):
        products.clear()
        with using_adapters(names, CPU):
            lora(x)
        assert products == expected


def test_the_products_are_in_the_dtype_of_the_activations() -> None:
    lora, x = layer(nn.Linear(6, 12).bfloat16()), torch.randn(5, 6).bfloat16()
    with using_adapters(NAMES, CPU):
        y = lora(x)
    assert y.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in lora.lora_a} == {torch.float32}


@pytest.mark.parametrize("names", [["first"] * 5, NAMES])
def test_a_and_b_learn_and_a_frozen_base_does_not(names: Sequence[str | None]) -> None:
    lora = layer(nn.Linear(6, 12).requires_grad_(False))
    x = torch.randn(5, 3, 6)
    with torch.enable_grad(), using_adapters(names, CPU):
        lora(x).square().sum().backward()
    assert {name for name, p in lora.named_parameters() if p.grad is not None and p.grad.any()} == {
        f"lora_{side}.{place}" for side in "ab" for place in range(len({*names} - {None}))
    }


def test_a_batch_of_another_size_than_the_choice_is_a_mistake() -> None:
    with using_adapters(NAMES, CPU), pytest.raises(AssertionError):
        layer(Doubling())(torch.randn(6, 6))


def test_a_choice_is_for_its_own_block_and_thread_alone() -> None:
    lora, x = layer(Doubling()), torch.randn(1, 6)
    plain = lora(x)
    seen: list[Tensor] = []
    with using_adapters(["first"], CPU):
        first = lora(x)
        with using_adapters(["second"], CPU):
            assert not torch.equal(lora(x), first)
        assert torch.equal(lora(x), first)
        thread = Thread(target=lambda: seen.append(lora(x)))
        thread.start()
        thread.join()
        with pytest.raises(ValueError, match="it"), using_adapters([None], CPU):
            raise ValueError("it")
        assert torch.equal(lora(x), first)
    assert torch.equal(seen[0], plain)
    assert torch.equal(lora(x), plain)


def test_work_in_pieces_keeps_its_choice_and_leaves_what_is_done_in_between_alone() -> None:
    lora, x = layer(Doubling()), torch.randn(1, 6)

    def work():
        seen = [lora(x)]
        yield
        seen.append(lora(x))
        yield
        return [*seen, lora(x)]

    expected = {}
    for name in (None, "first", "second"):
        with using_adapters([name], CPU):
            expected[name] = lora(x)
    first, second = (in_pieces_using([name], CPU, work()) for name in ("first", "second"))
    next(first)
    next(second)
    assert torch.equal(lora(x), expected[None])
    next(first)
    next(second)
    for works, name in ((first, "first"), (second, "second")):
        seen = finish(works)
        assert all(torch.equal(each, expected[name]) for each in seen)
        assert len(seen) == 3


@pytest.fixture
def inputs() -> Callable[[PaliGemma2Model], tuple[Tensor, Tensor, PrefixLayout]]:
    """Three prompts with a picture each."""

    def make(model: PaliGemma2Model) -> tuple[Tensor, Tensor, PrefixLayout]:
        torch.manual_seed(0)
        slots = [model.config.image_token_id] * model.config.num_image_tokens
        ids = torch.tensor([[*slots, 2, 5, 9, 30, 10], [*slots, 2, 7, 7, 3, 10], [*slots, 2, 8, 4, 6, 10]])
        size = model.config.vision.image_size
        layout = PrefixLayout.from_flags(torch.ones_like(ids) > 0, torch.ones_like(ids) > 0)
        return ids, torch.rand(3, 3, size, size) * 2 - 1, layout

    return make


@pytest.mark.parametrize("is_packed", [False, True])
@torch.inference_mode()
def test_a_mixed_batch_computes_for_each_row_what_its_adapter_computes_alone(
    small_model: Callable[..., PaliGemma2Model],
    inputs: Callable[[PaliGemma2Model], tuple[Tensor, Tensor, PrefixLayout]],
    is_packed: bool,
) -> None:
    if is_packed and not has_half_kernels():
        pytest.skip("this build of PyTorch has no FBGEMM")
    model = small_model()
    if is_packed:
        refill(model.bfloat16(), half_form(), "language_model.embed_tokens.weight")
    asked = inputs(model)
    plain = model(*asked)
    adapters = {
        "words": random_adapter(model.config, DECODER, seed=1),
        "both": random_adapter(model.config, EVERYTHING, seed=2, rank=5),
    }
    attach(model, adapters)
    assert torch.equal(model(*asked), plain)
    names = ["both", None, "words"]
    with using_adapters(names, model.device):
        mixed = model(*asked)
    assert torch.equal(mixed[1], plain[1])
    for row in (0, 2):
        with using_adapters([names[row]], model.device):
            alone = model(*asked)[row]
        torch.testing.assert_close(mixed[row], alone, atol=1e-4, rtol=1e-4)
        assert (alone - plain[row]).abs().max() > 0.01


@torch.inference_mode()
def test_an_adapter_is_the_same_as_the_weights_with_its_products_added(
    small_model: Callable[..., PaliGemma2Model],
    inputs: Callable[[PaliGemma2Model], tuple[Tensor, Tensor, PrefixLayout]],
) -> None:
    model = small_model()
    adapter = random_adapter(model.config, EVERYTHING, alpha=5.0)
    expected = merged(model, adapter)(*inputs(model))
    attach(model, {"it": adapter})
    with using_adapters(["it"], model.device):
        torch.testing.assert_close(model(*inputs(model)), expected, atol=1e-4, rtol=1e-4)


def test_the_scale_is_alpha_by_rank_or_by_its_root() -> None:
    changes = {"it": LowRank(torch.zeros(4, 3), torch.zeros(5, 4), 6.0)}
    assert Adapter(changes=changes).scale_of("it") == 1.5
    assert Adapter(changes=changes, is_rank_stabilized=True).scale_of("it") == 3.0


def test_only_names_of_layers_change_and_the_old_ones_are_known(
    small_model: Callable[..., PaliGemma2Model],
) -> None:
    model = small_model()
    before = dict(model.named_parameters())
    q = "language_model.layers.0.self_attn.q_proj"
    adapter = random_adapter(model.config, DECODER)
    attach(model, {"first": adapter, "v1.0": adapter})
    after = base_parameters(model)
    assert after.keys() == before.keys()
    assert all(after[name] is parameter for name, parameter in before.items())
    assert {name for name in model.state_dict() if name.startswith(q)} == {
        f"{q}.{name}" for name in ("base.weight", "lora_a.0", "lora_a.1", "lora_b.0", "lora_b.1")
    }
    assert adapter_names(model) == ("first", "v1.0")
    assert adapter_names(model.vision_tower, model.multi_modal_projector) == ()


def test_attached_copies_are_trained_without_touching_the_adapter(
    small_model: Callable[..., PaliGemma2Model],
) -> None:
    model = small_model()
    adapter = random_adapter(model.config, DECODER)
    attach(model, {"it": adapter})
    q = "language_model.layers.0.self_attn.q_proj"
    with torch.no_grad():
        model.get_submodule(q).lora_a[0].add_(1.0)
    assert torch.equal(adapter.changes[q].a + 1.0, model.get_submodule(q).lora_a[0])


def test_a_copy_of_a_model_with_adapters_computes_the_same(
    small_model: Callable[..., PaliGemma2Model],
    inputs: Callable[[PaliGemma2Model], tuple[Tensor, Tensor, PrefixLayout]],
) -> None:
    model = small_model()
    attach(model, {"it": random_adapter(model.config, EVERYTHING)})
    copied = copy.deepcopy(model)
    for chosen in (using_adapters(["it"], CPU), nullcontext()):
        with chosen, torch.inference_mode():
            assert torch.equal(copied(*inputs(model)), model(*inputs(model)))
