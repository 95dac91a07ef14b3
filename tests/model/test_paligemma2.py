import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from paligemma2.errors import ConfigError, InputError
from paligemma2.model import gemma2, recomputed, siglip
from paligemma2.model.config import Recomputation
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.training.loss import suffix_loss

SmallModel = Callable[..., PaliGemma2Model]
VISION_TOLERANCE = 1e-5
LOGITS_TOLERANCE = 2e-3
LOSS_TOLERANCE = 2e-4
# transformers computes the same sums in another order; wrong readings of the model miss by over 1e-2.
REFERENCE_TOLERANCE = 1e-3
IMAGE = 150  # of the small model, whose images have four tokens
SEEDS = range(10)


def largest_difference(mine: Tensor, theirs: Tensor, is_valid: Tensor | None = None) -> float:
    assert mine.shape == theirs.shape
    difference = (mine.double() - theirs.double()).abs()
    return float(difference.max() if is_valid is None else difference[is_valid].max())


def greedy(
    model: PaliGemma2Model, ids: Tensor, image_tokens: Tensor | None, layout: PrefixLayout, num_new: int
) -> tuple[Tensor, Tensor]:
    """Tokens [batch, new] and their logits [batch, new, vocab], decoded with a cache, nothing excluded."""
    logits, cache = model.prefill(ids, image_tokens, layout, num_new)
    tokens, steps = [logits.argmax(-1)], [logits]
    while len(tokens) < num_new:
        steps.append(model.step(tokens[-1], cache))
        tokens.append(steps[-1].argmax(-1))
    return torch.stack(tokens, 1), torch.stack(steps, 1)


def hidden_of_layers(
    model: PaliGemma2Model, ids: Tensor, image_tokens: Tensor, layout: PrefixLayout
) -> Tensor:
    """[layers + 1, batch, seq, width]: embeddings, after each layer but the last, after the final norm."""
    seen: list[Tensor] = []
    language_model = model.language_model
    handles = [
        layer.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for layer in language_model.layers
    ]
    handles.append(language_model.norm.register_forward_hook(lambda _, __, output: seen.append(output)))
    model.hidden_states(ids, image_tokens, layout)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


# --- the stored reference model ---------------------------------------------------------------------------


def golden_loss(case: Any, **options: Any) -> Tensor:
    labels = case.inputs["train_labels"][:, 1:]
    logits = case.model(case.inputs["train_ids"], case.inputs["pixel_values"], case.train_layout)
    return suffix_loss(logits[:, :-1], labels.clamp(min=0), (labels >= 0).float(), **options)


def golden_array(case: Any, name: str) -> tuple[Tensor, float, Tensor | None]:
    """What we compute for a stored array, how far it may be off, and where it has a meaning."""
    model, inputs, stored = case.model, case.inputs, case.stored[name]
    prompt_ids, pixel_values = inputs["prompt_ids"], inputs["pixel_values"]
    layout, is_valid = case.prompt_layout, case.prompt_layout.is_valid
    image_tokens = model.encode_images(pixel_values)
    match name.removeprefix("train_loss_").partition("_label_smoothing_"):
        case "vision_last_hidden", _, _:
            return model.vision_tower(pixel_values), VISION_TOLERANCE, None
        case "image_features", _, _:
            return image_tokens, VISION_TOLERANCE, None
        case "prefill_hidden", _, _:
            hidden = hidden_of_layers(model, prompt_ids, image_tokens, layout)
            return hidden, LOGITS_TOLERANCE, is_valid.expand(hidden.shape[:-1])
        case "prefill_logits", _, _:
            return model(prompt_ids, pixel_values, layout), LOGITS_TOLERANCE, is_valid
        case "train_logits", _, _:
            logits = model(inputs["train_ids"], pixel_values, case.train_layout)
            return logits, LOGITS_TOLERANCE, case.train_layout.is_valid
        case "hf_token_mean", _, _:
            return golden_loss(case, average="token"), LOSS_TOLERANCE, None
        case "bv_example_mean", _, _:
            return golden_loss(case), LOSS_TOLERANCE, None
        case "bv", _, amount if amount:
            smoothing = float(amount.replace("p", "."))
            return golden_loss(case, label_smoothing=smoothing), LOSS_TOLERANCE, None
        case "greedy_tokens" | "hf_generate_tokens", _, _:
            return greedy(model, prompt_ids, image_tokens, layout, stored.shape[1])[0], 0.0, None
        case "greedy_step_logits", _, _:
            return greedy(model, prompt_ids, image_tokens, layout, stored.shape[1])[1], LOGITS_TOLERANCE, None
    pytest.fail(f"{case.name} holds {name}, which nothing here computes")


@pytest.mark.golden
def test_the_stored_array_is_reproduced(
    stored_array: str, golden_case: Any, record_property: Callable[[str, object], None]
) -> None:
    name = stored_array.partition("/")[2]
    mine, tolerance, is_valid = golden_array(golden_case, name)
    off = largest_difference(mine, golden_case.stored[name], is_valid)
    record_property("largest difference", off)
    assert off <= tolerance


# --- random transformers models ---------------------------------------------------------------------------


@pytest.fixture(params=SEEDS)
def case(request: pytest.FixtureRequest, reference: Callable[[int], Any]) -> Any:
    return reference(request.param)


def test_random_models_encode_images_as_transformers_does(case: Any) -> None:
    tower = case.theirs.model.vision_tower(case.pixel_values).last_hidden_state
    model = case.ours()
    assert largest_difference(model.vision_tower(case.pixel_values), tower) < VISION_TOLERANCE
    projected = case.theirs.model.multi_modal_projector(tower)
    assert largest_difference(model.encode_images(case.pixel_values), projected) < VISION_TOLERANCE


@pytest.mark.parametrize("batch", ["prompt_batch", "train_batch"])
def test_random_models_give_the_logits_of_transformers(case: Any, batch: str) -> None:
    ids, is_valid, is_suffix = getattr(case, batch)()
    theirs = case.their_logits(ids, is_valid, is_suffix)
    mine = case.ours()(ids, case.pixel_values, PrefixLayout.from_flags(is_valid, ~is_suffix))
    assert largest_difference(mine, theirs, is_valid) < REFERENCE_TOLERANCE


def test_random_models_decode_as_transformers_generates(case: Any) -> None:
    ids, is_valid, _ = case.prompt_batch()
    model, num_new = case.ours(), 12
    generated = case.theirs.generate(
        input_ids=ids,
        pixel_values=case.pixel_values,
        attention_mask=is_valid.long(),
        token_type_ids=torch.zeros_like(ids),
        max_new_tokens=num_new,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    theirs = torch.stack(generated.logits, 1)
    layout = PrefixLayout.from_flags(is_valid, is_valid)
    tokens, logits = greedy(model, ids, model.encode_images(case.pixel_values), layout, num_new)
    # A near tie may fall either way; from there on a row says nothing.
    best, second = theirs.topk(2, -1).values.unbind(-1)
    is_clear = ((best - second) > 2 * REFERENCE_TOLERANCE).cummin(1).values
    assert is_clear.float().mean() > 0.5
    assert torch.equal(tokens[is_clear], generated.sequences[:, ids.shape[1] :][is_clear])
    is_same = torch.cat([torch.ones_like(is_clear[:, :1]), is_clear[:, :-1]], dim=1)
    assert largest_difference(logits, theirs, is_same) < REFERENCE_TOLERANCE


def test_the_comparison_would_notice_a_wrong_setting(case: Any) -> None:
    ids, is_valid, is_suffix = case.train_batch()
    layout = PrefixLayout.from_flags(is_valid, ~is_suffix)
    right = case.ours()(ids, case.pixel_values, layout)
    text = case.config.text
    wrong: dict[str, PaliGemma2Model] = {
        "head_dim as scale": case.ours(query_pre_attn_scalar=float(text.head_dim)),
        "no window": case.ours(sliding_window=None),
        "window off by one": case.ours(sliding_window=text.sliding_window + 1),
        "window on other layers": case.ours(
            sliding_layers=tuple(not slides for slides in text.sliding_layers)
        ),
        "attention cap": case.ours(attention_cap=None if text.attention_cap else 10.0),
        "final cap": case.ours(final_cap=None if text.final_cap else 5.0),
        "unscaled embedding": case.ours(embedding_scale=1.0),
    }
    moved = {
        name: largest_difference(model(ids, case.pixel_values, layout), right, is_valid)
        for name, model in wrong.items()
    }
    causal = dataclasses.replace(layout, is_prefix=torch.zeros_like(layout.is_prefix))
    moved["causal"] = largest_difference(case.ours()(ids, case.pixel_values, causal), right, is_valid)
    assert min(moved.values()) > 2 * REFERENCE_TOLERANCE, moved


# --- who sees whom ----------------------------------------------------------------------------------------


def row(prefix_length: int, suffix_length: int = 0, seed: int = 0) -> list[int]:
    """Four image tokens, <bos>, a prefix, the separator and a suffix."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(3, 140, (prefix_length + suffix_length,), generator=generator).tolist()
    return [IMAGE] * 4 + [2, *text[:prefix_length], 10, *text[prefix_length:]]


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def layout_of(row_length: int, num_prefix: int) -> PrefixLayout:
    is_valid = torch.ones(1, row_length, dtype=torch.bool)
    return PrefixLayout.from_flags(is_valid, torch.arange(row_length)[None] < num_prefix)


@pytest.fixture(params=[None, 3], ids=["no window", "window 3"])
def model(request: pytest.FixtureRequest, small_model: SmallModel) -> Iterator[PaliGemma2Model]:
    return small_model(sliding_window=request.param)


def changes(model: PaliGemma2Model, ids: list[int], layout: PrefixLayout, at: int) -> Tensor:
    """How far each token's hidden state moves when the token at `at` becomes another, [seq]."""
    changed = [*ids[:at], ids[at] % 100 + 7, *ids[at + 1 :]]
    before, after = (
        model.hidden_states(torch.tensor([tokens]), model.encode_images(images(1)), layout)[0]
        for tokens in (ids, changed)
    )
    return (before - after).abs().amax(-1)


@pytest.mark.parametrize("at", [5, 8, 11])
def test_a_later_prefix_token_changes_image_and_earlier_text_tokens(model: PaliGemma2Model, at: int) -> None:
    ids = row(prefix_length=7)  # four image tokens, <bos>, text 5..11, separator 12
    moved = changes(model, ids, layout_of(len(ids), len(ids)), at)
    assert (moved > 1e-3).all(), "some prefix token does not see the one that changed"
    causal = changes(model, ids, layout_of(len(ids), 0), at)
    assert not causal[:at].any(), "the instrument finds changes where there can be none"


@pytest.mark.parametrize("at", [13, 15, 18])
def test_a_suffix_token_changes_nothing_before_it(model: PaliGemma2Model, at: int) -> None:
    ids = row(prefix_length=7, suffix_length=6)  # suffix 13..18
    moved = changes(model, ids, layout_of(len(ids), 13), at)
    assert not moved[:at].any(), "a suffix token leaks backwards"
    assert (moved[at:] > 1e-3).all()
    leaking = changes(model, ids, layout_of(len(ids), len(ids)), at)
    assert (leaking > 1e-3).all(), "the instrument would not notice a leak"


def test_the_image_changes_every_token(model: PaliGemma2Model) -> None:
    ids, layout = torch.tensor([row(5, 3)]), layout_of(14, 11)
    first, second = (model(ids, images(1, seed), layout) for seed in (0, 1))
    assert (first - second).abs().amax(-1).gt(1e-3).all()


@pytest.mark.parametrize("left", [True, False])
def test_what_padding_holds_changes_nothing_at_all(
    model: PaliGemma2Model, pad: Callable[..., Tensor], left: bool
) -> None:
    rows = [row(6, 3, seed=1), row(2, 2, seed=2)]
    is_valid = pad([[1] * len(ids) for ids in rows], left=left).bool()
    is_suffix = pad([[0] * (len(ids) - 2) + [1, 1] for ids in rows], left=left).bool()
    layout = PrefixLayout.from_flags(is_valid, ~is_suffix)
    zeros, others = (
        model(pad(rows, left=left, value=value), images(2), layout)[is_valid] for value in (0, 77)
    )
    assert torch.equal(zeros, others)


def test_padding_left_or_right_or_none_gives_the_same_logits(
    model: PaliGemma2Model, pad: Callable[..., Tensor]
) -> None:
    rows = [row(6, 3, seed=1), row(2, 3, seed=2)]
    logits = []
    for left in (True, False):
        is_valid = pad([[1] * len(ids) for ids in rows], left=left).bool()
        is_suffix = pad([[0] * (len(ids) - 3) + [1] * 3 for ids in rows], left=left).bool()
        layout = PrefixLayout.from_flags(is_valid, ~is_suffix)
        logits.append(model(pad(rows, left=left), images(2), layout)[is_valid])
    alone = [
        model(torch.tensor([ids]), images(2)[i : i + 1], layout_of(len(ids), len(ids) - 3))[0]
        for i, ids in enumerate(rows)
    ]
    assert largest_difference(logits[0], logits[1]) < 1e-4
    assert largest_difference(logits[0], torch.cat(alone)) < 1e-4


def test_a_row_of_nothing_but_padding_gives_numbers(model: PaliGemma2Model) -> None:
    ids = torch.tensor([row(2), [0] * 8])
    layout = PrefixLayout.from_flags(ids > 0, ids > 0)
    assert model(ids, images(1), layout).isfinite().all()


def test_packed_examples_give_the_logits_of_separate_rows(model: PaliGemma2Model) -> None:
    lengths = [(5, 4), (1, 2), (3, 5)]  # of prefix and suffix
    packed: list[tuple[int, int, bool]] = []  # id, segment, is it prefix
    for i, (prefix, suffix) in enumerate(lengths, start=1):
        ids = row(prefix, suffix, seed=i)
        packed += [(token, i, at < len(ids) - suffix) for at, token in enumerate(ids)]
        packed += [(0, 0, False)] * (i - 1)  # no padding, then some, then more
    tokens, segments, is_prefix = (torch.tensor([column]) for column in zip(*packed, strict=True))
    logits = model(tokens, images(3), PrefixLayout.from_segments(segments, is_prefix))
    for i, (prefix, suffix) in enumerate(lengths, start=1):
        ids = row(prefix, suffix, seed=i)
        alone = model(torch.tensor([ids]), images(3)[i - 1 : i], layout_of(len(ids), len(ids) - suffix))
        assert largest_difference(logits[segments == i], alone[0]) < 1e-4


# --- images -----------------------------------------------------------------------------------------------


def test_images_of_one_example_are_encoded_apart(small_model: SmallModel) -> None:
    model = small_model()
    together = model.encode_images(images(3))
    assert together.shape == (3, model.config.num_image_tokens, model.config.text.hidden_size)
    apart = torch.cat([model.encode_images(image[None]) for image in images(3)])
    assert largest_difference(together, apart) < 1e-5
    swapped = model.encode_images(images(3)[[0, 2, 1]])
    assert largest_difference(swapped[[0, 2, 1]], together) < 1e-5


def test_image_tokens_take_their_slots_in_order_and_unscaled(small_model: SmallModel) -> None:
    model = small_model()
    ids = torch.tensor([[*([IMAGE] * 8), 2, 30, 10], [0, 0, *([IMAGE] * 4), 2, 30, 31, 32, 10]])
    image_tokens = model.encode_images(images(3))
    embedded = model.embed(ids, image_tokens)
    assert torch.equal(embedded[ids == IMAGE], image_tokens.flatten(0, 1))
    is_text = ids != IMAGE
    assert torch.equal(embedded[is_text], model.language_model.embed(ids)[is_text])


def test_the_order_of_images_matters(small_model: SmallModel) -> None:
    model = small_model()
    ids = torch.tensor([[*([IMAGE] * 8), 2, 30, 31, 10]])
    layout = layout_of(12, 12)
    first, second = (model(ids, pixels, layout)[0, -1] for pixels in (images(2), images(2).flip(0)))
    assert largest_difference(first, second) > 1e-2


@pytest.mark.parametrize(("slots", "count"), [(4, 2), (8, 1), (4, 0), (0, 1), (3, 1)])
def test_a_wrong_number_of_images_is_refused(small_model: SmallModel, slots: int, count: int) -> None:
    ids = torch.tensor([[IMAGE] * slots + [2, 10]])
    pixels = images(count) if count else None
    with pytest.raises(InputError, match=f"room for {slots} image tokens, the images give {4 * count}"):
        small_model()(ids, pixels, layout_of(slots + 2, slots + 2))


def test_a_prompt_without_images_needs_none(small_model: SmallModel) -> None:
    assert small_model()(torch.tensor([[2, 30, 10]]), None, layout_of(3, 3)).shape == (1, 3, 160)


def test_the_image_id_may_lie_behind_the_last_row(small_model: SmallModel) -> None:
    model = small_model()
    model.config = dataclasses.replace(model.config, image_token_id=model.config.text.vocab_size)
    ids = torch.tensor([row(3)])
    moved = torch.where(ids == IMAGE, model.config.image_token_id, ids)
    layout = layout_of(ids.shape[1], ids.shape[1])
    assert torch.equal(model(moved, images(1), layout), small_model()(ids, images(1), layout))


# --- dtypes and gradients ---------------------------------------------------------------------------------


def test_the_model_in_bfloat16_stays_close_to_float32(small_model: SmallModel) -> None:
    ids, layout = torch.tensor([row(6, 4)]), layout_of(16, 12)
    wide, narrow = small_model().eval(), small_model().bfloat16()
    expected, mine = wide(ids, images(1), layout), narrow(ids, images(1), layout)
    assert (narrow.dtype, mine.dtype) == (torch.bfloat16, torch.float32)
    assert mine.isfinite().all()
    assert ((mine - expected).norm() / expected.norm()) < 0.1
    prompt, prompt_layout = ids[:, :12], layout_of(12, 12)
    tokens = narrow.encode_images(images(1))
    _, cache = narrow.prefill(prompt, tokens, prompt_layout, 4)
    assert cache.keys.dtype == torch.bfloat16
    steps = torch.stack([narrow.step(ids[:, at], cache)[0] for at in range(12, 16)])
    assert ((steps - expected[0, 12:]).norm() / expected[0, 12:].norm()) < 0.1


def test_every_weight_gets_a_gradient_from_the_suffix(small_model: SmallModel) -> None:
    model = small_model()
    with torch.enable_grad():
        logits = model(torch.tensor([row(4, 4)]), images(1), layout_of(14, 10))
        logits[:, 9:-1].log_softmax(-1)[..., 5].sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


# --- training ---------------------------------------------------------------------------------------------


def gradients_of(model: PaliGemma2Model, seed: int = 0) -> list[Tensor]:
    """Loss and gradients of two prompts of unequal length, with dropout if there is any."""
    ids, layout = padded_prompts()
    torch.manual_seed(seed)
    with torch.enable_grad():
        logits = model(ids, images(2), layout)
        loss = (logits.log_softmax(-1)[..., 7] * layout.is_valid).sum()
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def padded_prompts() -> tuple[Tensor, PrefixLayout]:
    ids = torch.tensor([[IMAGE] * 4 + [2, 7, 8, 9, 10], [IMAGE] * 4 + [2, 11, 12, 0, 0]])
    is_prefix = torch.tensor([[1] * 6 + [0] * 3, [1] * 6 + [0] * 3]).bool()
    return ids, PrefixLayout.from_flags(ids > 0, is_prefix)


def test_what_training_computes_again_changes_no_gradient(
    small_model: Callable[..., PaliGemma2Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    ours = gradients_of(model)
    torch.testing.assert_close(ours[0], gradient_free_loss(model))

    def plain_attention(
        q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, *_: Any, **how: Any
    ) -> Tensor:
        return gemma2.grouped_attention(q, k, v, visible, **how)

    def plain_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return torch.nn.functional.rms_norm(x, (x.shape[-1],), 1.0 + weight, eps)

    for module in (gemma2, siglip):
        monkeypatch.setattr(module, "recomputed_attention", plain_attention)
    monkeypatch.setattr(recomputed, "rms_norm", plain_norm)
    monkeypatch.setattr(recomputed, "rotate", gemma2.rotate)
    monkeypatch.setattr(recomputed, "gated_gelu", lambda gate, up: gelu(gate, approximate="tanh") * up)
    for a, b in zip(ours, gradients_of(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def gradient_free_loss(model: PaliGemma2Model) -> Tensor:
    ids, layout = padded_prompts()
    return (model(ids, images(2), layout).log_softmax(-1)[..., 7] * layout.is_valid).sum()


@pytest.mark.parametrize("recomputation", ["selective", "full"])
def test_blocks_that_compute_again_give_the_same_gradient_with_dropout(
    small_model: Callable[..., PaliGemma2Model], recomputation: Recomputation
) -> None:
    model = small_model().train()
    model.prepare_training(dropout=0.2)
    kept = gradients_of(model)
    model.prepare_training(dropout=0.2, recomputation=recomputation)
    for a, b in zip(gradients_of(model), kept, strict=True):
        assert torch.equal(a, b)


def test_dropout_depends_on_the_seed_and_is_off_in_evaluation(
    small_model: Callable[..., PaliGemma2Model],
) -> None:
    model = small_model().train()
    exact = gradients_of(model)[0]
    model.prepare_training(dropout=0.2)
    assert torch.equal(gradients_of(model)[0], gradients_of(model)[0])
    assert len({gradients_of(model, seed)[0].item() for seed in range(3)} | {exact.item()}) == 4
    assert torch.equal(gradients_of(model.eval())[0], exact)


def test_dropout_follows_the_norm_of_the_attention_and_precedes_that_of_the_mlp(
    small_model: Callable[..., PaliGemma2Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model().train()
    model.prepare_training(dropout=0.2)
    layer = model.language_model.layers[0]
    order: list[str] = []
    monkeypatch.setattr(layer, "_drop", lambda x: order.append("drop") or x)
    for name, module in layer.named_children():
        module.register_forward_hook(lambda *_, name=name: order.append(name))
    gradient_free_loss(model)
    after_attention = order[order.index("self_attn") :]
    assert after_attention == [
        "self_attn",
        "post_attention_layernorm",
        "drop",
        "pre_feedforward_layernorm",
        "mlp",
        "drop",
        "post_feedforward_layernorm",
    ]


def test_settings_of_training_are_checked(small_model: Callable[..., PaliGemma2Model]) -> None:
    with pytest.raises(ConfigError, match=r"dropout is 1\.0"):
        small_model().prepare_training(dropout=1.0)
    with pytest.raises(ConfigError, match="'some' is unknown"):
        small_model().prepare_training(recomputation="some")  # type: ignore[arg-type]
