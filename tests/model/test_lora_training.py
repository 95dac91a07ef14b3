import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from paligemma2.errors import ConfigError, InputError
from paligemma2.model.lora import Adapter, TrainableLora, attach, base_parameters, using_adapters
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.lora_training import adapter_in, add_adapter, add_fresh_adapter, take_out
from paligemma2.model.packed_linear import has_packed_kernels
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.weight_forms import packed_form, refill, restored_form
from tests.model.conftest import SMALL, fill
from tests.several_processes import in_processes
from tests.small_adapter import DECODER, EVERYTHING, merged, random_adapter

TABLE = "language_model.embed_tokens.weight"
Q = "language_model.layers.0.self_attn.q_proj"
Build = Callable[..., PaliGemma2Model]


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


@pytest.fixture
def small_model(small_model: Build) -> Build:
    return torch.no_grad()(small_model)


def batch(rows: int = 2) -> tuple[Tensor, Tensor, PrefixLayout]:
    """A picture, a prefix of two tokens and a suffix of three in each row."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(3, 140, (rows, 5), generator=generator)
    ids = torch.cat((torch.full((rows, 4), 150), words), dim=1)
    is_prefix = (torch.arange(9) < 6).expand_as(ids)
    pixel_values = torch.rand(rows, 3, 28, 28, generator=generator) * 2 - 1
    return ids, pixel_values, PrefixLayout.from_flags(torch.ones_like(ids) > 0, is_prefix)


def loss_of(model: PaliGemma2Model, rows: slice = slice(None)) -> Tensor:
    ids, pixel_values, layout = batch()
    some = PrefixLayout(layout.segments[rows], layout.is_prefix[rows], layout.positions[rows])
    logits = model(ids[rows], pixel_values[rows], some)[:, 5:-1]
    return F.cross_entropy(logits.flatten(0, 1), ids[rows, 6:].flatten())


def train(model: PaliGemma2Model, steps: int, rate: float = 0.05) -> list[float]:
    """The losses of some steps of plain gradient descent."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses = []
    for _ in range(steps):
        loss = loss_of(model)
        losses.append(loss.item())
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.data.sub_(rate * gradient)
    return losses


def test_a_fresh_adapter_changes_nothing_until_it_has_learned(small_model: Build) -> None:
    model = small_model()
    before = loss_of(model)
    add_fresh_adapter(model, LoraSettings(rank=3))
    assert torch.equal(loss_of(model), before)
    losses = train(model, 8)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_the_adapter_is_trained_in_float32_on_the_decoder_alone(
    small_model: Build, dtype: torch.dtype
) -> None:
    model = small_model().to(dtype)
    add_fresh_adapter(model, LoraSettings(rank=3))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    layers = SMALL.text.num_layers
    assert len(trained) == layers * 7 * 2
    assert all(name.startswith("language_model.layers.") and ".lora_" in name for name in trained)
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    train(model, 2)
    assert all(parameter.any() for parameter in trained.values())


def test_an_adapter_begins_as_that_of_peft_does(small_model: Build) -> None:
    linear = nn.Sequential(nn.Linear(400, 300))
    theirs = get_peft_model(linear, LoraConfig(r=16, target_modules=["0"])).base_model.model[0]
    a, b = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
    model = small_model(hidden_size=400)
    add_fresh_adapter(model, LoraSettings(rank=16, targets=("q_proj",)), seed=3)
    ours = adapter_in(model).changes[Q]
    assert ours.a.shape == a.shape
    assert not ours.b.any()
    assert not b.any()
    for each in (a, ours.a):  # uniform up to the bound: numbers of 6400 come within a hundredth of it
        assert 0.99 * 400**-0.5 < each.abs().max() <= 400**-0.5
        assert each.std().item() == pytest.approx(400**-0.5 / 3**0.5, rel=0.03)


def test_the_seed_alone_decides_how_it_begins(small_model: Build) -> None:
    def fresh(seed: int) -> Tensor:
        model = small_model()
        add_fresh_adapter(model, LoraSettings(), seed=seed)
        return adapter_in(model).changes[Q].a

    first = fresh(5)
    torch.manual_seed(99)
    assert torch.equal(fresh(5), first)
    assert not torch.equal(fresh(6), first)


def test_ranks_and_alphas_of_patterns_and_the_scale_reach_the_layers(small_model: Build) -> None:
    model = small_model()
    settings = LoraSettings(
        rank=4,
        alpha=6.0,
        is_rank_stabilized=True,
        rank_pattern={"q_proj": 9},
        alpha_pattern={"mlp.*": 2.0},
    )
    add_fresh_adapter(model, settings)
    adapter = adapter_in(model, base_model="google/it")
    assert adapter.base_model == "google/it"
    assert adapter.changes[Q].a.shape[0] == adapter.changes[Q].b.shape[1] == 9
    assert adapter.scale_of(Q) == 2.0
    assert adapter.scale_of("language_model.layers.1.mlp.up_proj") == 1.0
    assert adapter.scale_of("language_model.layers.1.self_attn.o_proj") == 3.0


@pytest.mark.parametrize("layers", [DECODER, EVERYTHING])
@pytest.mark.parametrize("is_rank_stabilized", [False, True])
def test_an_adapter_that_is_put_in_computes_what_merged_weights_do(
    small_model: Build, layers: str, is_rank_stabilized: bool
) -> None:
    model = small_model()
    adapter = random_adapter(model.config, layers, alpha=5.0, is_rank_stabilized=is_rank_stabilized)
    expected = loss_of(merged(model, adapter))
    assert (loss_of(model) - expected).abs() > 0.01
    add_adapter(model, adapter)
    torch.testing.assert_close(loss_of(model), expected, atol=1e-5, rtol=1e-5)


def test_what_is_taken_out_is_what_was_trained_and_the_model_is_as_before(small_model: Build) -> None:
    model = small_model()
    names, before = set(dict(model.named_parameters())), loss_of(model)
    add_fresh_adapter(model, LoraSettings())
    train(model, 3)
    during, after = loss_of(model), take_out(model)
    assert set(dict(model.named_parameters())) == names
    assert torch.equal(loss_of(model), before)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    add_adapter(model, after)
    assert torch.equal(loss_of(model), during)
    take_out(model)
    attach(model, {"it": after})
    with using_adapters(["it"], model.device):
        torch.testing.assert_close(loss_of(model), during, atol=1e-5, rtol=1e-5)


def test_the_models_own_weights_keep_their_names_for_those_who_read_them(small_model: Build) -> None:
    model = small_model()
    before = dict(model.named_parameters())
    add_fresh_adapter(model, LoraSettings())
    after = base_parameters(model)
    assert after.keys() == before.keys()
    assert all(after[name] is parameter for name, parameter in before.items())


def test_parts_of_an_adapter_are_brought_together(small_model: Build) -> None:
    model = small_model()
    add_fresh_adapter(model, LoraSettings())
    doubled = adapter_in(model, gather=lambda parameter: torch.cat([parameter, parameter]))
    assert torch.equal(doubled.changes[Q].a, adapter_in(model).changes[Q].a.repeat(2, 1))


def test_copies_are_not_trained_further(small_model: Build) -> None:
    model = small_model()
    given = random_adapter(model.config)
    add_adapter(model, given)
    copied = adapter_in(model)
    kept = copied.changes[Q].a.clone()
    train(model, 1)
    assert torch.equal(copied.changes[Q].a, kept)
    assert torch.equal(given.changes[Q].a, kept)
    assert not torch.equal(adapter_in(model).changes[Q].a, kept)


def test_training_goes_on_where_it_was_taken_out(small_model: Build) -> None:
    whole, halves = small_model(), small_model()
    for model in (whole, halves):
        add_fresh_adapter(model, LoraSettings(alpha=16.0))
    losses = train(whole, 6)
    first = train(halves, 3)
    adapter = take_out(halves)
    add_adapter(halves, adapter)
    assert first + train(halves, 3) == losses


def test_a_choice_of_adapters_does_not_concern_one_in_training(small_model: Build) -> None:
    model = small_model()
    add_adapter(model, random_adapter(model.config))
    expected = loss_of(model)
    with using_adapters([None, "other"], model.device):
        assert torch.equal(loss_of(model), expected)


def test_packed_rows_have_the_loss_of_single_ones(small_model: Build) -> None:
    model = small_model()
    add_adapter(model, random_adapter(model.config))
    ids, pixel_values, layout = batch()
    segments = torch.cat((layout.segments[0], 2 * layout.segments[1]))[None]
    packed = PrefixLayout.from_segments(segments, layout.is_prefix.reshape(1, -1))
    logits = model(ids.reshape(1, -1), pixel_values, packed)
    alone = model(ids, pixel_values, layout)
    torch.testing.assert_close(logits.view(2, 9, -1), alone, atol=1e-4, rtol=1e-4)


def gradients(model: PaliGemma2Model) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activations_that_are_computed_again_see_the_same_adapter_and_dropout(
    small_model: Build, dropout: float
) -> None:
    adapter = random_adapter(SMALL)

    def trained(model: PaliGemma2Model) -> dict[str, Tensor]:
        add_adapter(model, adapter, dropout=dropout)
        torch.manual_seed(7)
        loss = loss_of(model.train())
        # As on a GPU, whose backward runs in a thread of its own.
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        return gradients(model)

    plain, again = small_model(), small_model()
    for layer in again.language_model.layers:
        forward = layer.forward
        layer.forward = lambda *inputs, do=forward: checkpoint(do, *inputs, use_reentrant=False)
    expected = trained(plain)
    found = trained(again)
    assert found.keys() == expected.keys()
    assert len(found) == SMALL.text.num_layers * 7 * 2
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=0, rtol=0)


def test_dropout_is_for_training_alone_and_leaves_the_base_alone() -> None:
    torch.manual_seed(0)
    change = random_adapter(SMALL).changes[Q]
    lora = TrainableLora(
        nn.Linear(32, 48), change, is_rank_stabilized=False, dropout=0.5, device=torch.device("cpu")
    )
    x = torch.randn(2000, 32)
    whole = lora.eval()(x)
    assert torch.equal(lora(x), whole)
    torch.manual_seed(1)
    dropped = lora.train()(x)
    torch.manual_seed(1)
    assert torch.equal(lora(x), dropped)
    change_of = whole - lora.base(x)
    assert (dropped - whole).abs().max() > 0.1
    # Each change is right on average, as inputs that stay count double.
    assert ((dropped - lora.base(x)).mean(0) - change_of.mean(0)).abs().max() < 0.1 * change_of.std()
    lora.lora_b.data.zero_()
    assert torch.equal(lora(x), lora.base(x))


def test_on_weights_of_few_bits_the_adapter_learns_and_they_stay(small_model: Build) -> None:
    for kind in ("int8", "int4"):
        model = small_model()
        refill(model, restored_form(kind, torch.float32), TABLE)
        before = loss_of(model)
        add_fresh_adapter(model, LoraSettings(parts=("decoder", "image"), rank=3))
        assert torch.equal(loss_of(model), before)
        losses = train(model, 8)
        assert losses[-1] < losses[0] - 0.5
        take_out(model)
        assert torch.equal(loss_of(model), before)


def test_the_gradients_on_weights_of_few_bits_are_those_on_the_restored_weights(small_model: Build) -> None:
    low, whole = small_model(), small_model()
    refill(low, restored_form("int4", torch.float32), TABLE)
    for name, module in low.named_modules():
        if hasattr(module, "_weight"):
            rows = module._weight.rows(slice(None), torch.float32)
            whole.get_submodule(name).weight.data.copy_(rows)
    found = []
    for model in (low, whole):
        add_adapter(model, random_adapter(SMALL, EVERYTHING))
        loss_of(model).backward()
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, atol=1e-5, rtol=1e-4)


def sharded_gradients(dtype: torch.dtype) -> dict[str, Any]:
    """The loss and the gradients of a model that two processes share, each with one row of the batch."""
    model = PaliGemma2Model(SMALL)
    with torch.no_grad():
        fill(model, seed=0)
    add_adapter(model.to(dtype), random_adapter(SMALL))
    for layer in model.language_model.layers:
        fully_shard(layer)
    fully_shard(model)
    rank = torch.distributed.get_rank()
    loss = loss_of(model, slice(rank, rank + 1))
    loss.backward()
    whole = {}
    for name, gradient in gradients(model).items():
        assert isinstance(gradient, DTensor)
        whole[name] = gradient.full_tensor()
    return {"loss": loss.item(), "gradients": whole}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_processes_that_share_a_model_train_its_adapter(
    tmp_path: Path, small_model: Build, dtype: torch.dtype, tolerance: float
) -> None:
    model = small_model().to(dtype)
    add_adapter(model, random_adapter(SMALL))
    loss = loss_of(model)
    loss.backward()
    first, second = in_processes(sharded_gradients, 2, tmp_path / "two", dtype)
    assert (first["loss"] + second["loss"]) / 2 == pytest.approx(loss.item(), rel=tolerance)
    for name, gradient in gradients(model).items():
        error = (first["gradients"][name] - gradient).norm() / gradient.norm()
        assert error < tolerance, name


def test_a_second_adapter_is_refused(small_model: Build) -> None:
    model = small_model()
    add_fresh_adapter(model, LoraSettings())
    with pytest.raises(InputError, match="has an adapter already"):
        add_fresh_adapter(model, LoraSettings())
    model = small_model()
    attach(model, {"it": random_adapter(model.config)})
    with pytest.raises(InputError, match="has an adapter already") as raised:
        add_fresh_adapter(model, LoraSettings())
    assert "without `adapter=`" in raised.value.hint


def test_a_model_without_one_has_none_to_take_out(small_model: Build) -> None:
    with pytest.raises(InputError, match="no adapter in training"):
        take_out(small_model())


@pytest.mark.skipif(not has_packed_kernels(torch.float32), reason="no oneDNN kernels")
def test_weights_that_are_packed_for_inference_are_refused(small_model: Build) -> None:
    model = small_model()
    refill(model, packed_form(torch.float32), TABLE)
    with pytest.raises(InputError, match="let no gradient through") as raised:
        add_fresh_adapter(model, LoraSettings())
    assert "for_training=True" in raised.value.hint


def test_a_target_that_is_not_there_leaves_the_model_as_it_is(small_model: Build) -> None:
    model = small_model()
    with pytest.raises(ConfigError, match="the target 'query'"):
        add_fresh_adapter(model, LoraSettings(targets=("q_proj", "query")))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_copy_of_a_model_in_training_computes_the_same(small_model: Build) -> None:
    model = small_model()
    add_adapter(model, random_adapter(SMALL))
    assert torch.equal(loss_of(copy.deepcopy(model)), loss_of(model))


def test_an_adapter_of_no_layer_is_none(small_model: Build) -> None:
    model = small_model()
    add_adapter(model, Adapter(changes={}))
    with pytest.raises(InputError, match="no adapter in training"):
        adapter_in(model)
