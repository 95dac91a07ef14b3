import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.packing import first_fit_decreasing, pack
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Average
from tests.training.small_model import SMALL, examples_on, picture, small_model, small_processor

PICTURES = [picture(seed) for seed in range(3)]
LENGTH = 60


def batch() -> ModelInputs:
    """Nine examples on three pictures; some share a picture, some have two."""
    examples = [*examples_on(PICTURES), *examples_on(PICTURES[::-1]), examples_on(PICTURES)[0]]
    named = [dataclasses.replace(each, id=str(number)) for number, each in enumerate(examples)]
    return small_processor().encode(named, train=True)


def model_with(**text: object) -> PaliGemma2Model:
    config = dataclasses.replace(SMALL, text=dataclasses.replace(SMALL.text, **text))  # type: ignore[arg-type]
    model = PaliGemma2Model(config)
    model.load_state_dict(small_model().state_dict())
    return model


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(50, 120))
def test_every_example_is_in_one_row_and_no_row_is_too_long(lengths: list[int], row_length: int) -> None:
    rows = first_fit_decreasing(lengths, row_length)
    assert sorted(example for row in rows for example in row) == list(range(len(lengths)))
    filled = [sum(lengths[example] for example in row) for row in rows]
    assert max(filled) <= row_length
    assert sum(used <= row_length / 2 for used in filled) <= 1  # or two of them would have shared one


def test_the_longest_come_first_and_equals_keep_their_order() -> None:
    assert first_fit_decreasing([3, 5, 3, 7, 5], 10) == [[3, 0], [1, 4], [2]]


def test_an_example_longer_than_a_row_is_refused() -> None:
    with pytest.raises(InputError, match="an example has 11 tokens, a row of packed examples 10"):
        first_fit_decreasing([3, 11], 10)


def test_packed_rows_hold_the_examples_as_they_were() -> None:
    padded = batch()
    packed = pack(padded, LENGTH, SMALL)
    assert len(packed.token_ids) < len(padded.token_ids)
    assert packed.loss_weights is not None
    assert padded.loss_weights is not None
    assert sorted(packed.ids) == sorted(padded.ids)
    for name, (row, start, stop) in zip(packed.ids, packed.layout.spans, strict=True):
        source, first, last = padded.layout.spans[int(name)]
        for ours, theirs in (
            (packed.token_ids, padded.token_ids),
            (packed.loss_weights, padded.loss_weights),
            (packed.layout.is_prefix, padded.layout.is_prefix),
            (packed.layout.positions, padded.layout.positions),
        ):
            assert torch.equal(ours[row, start:stop], theirs[source, first:last])
    assert packed.token_ids[~packed.layout.is_valid].unique().tolist() == [SMALL.pad_token_id]


def test_packed_again_nothing_changes() -> None:
    once = pack(batch(), LENGTH, SMALL)
    twice = pack(once, LENGTH, SMALL)
    assert sorted(once.ids) == sorted(twice.ids)
    assert torch.equal(once.token_ids.sort().values, twice.token_ids.sort().values)


@pytest.mark.parametrize("average", ["example", "token"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"sliding_window": 3, "sliding_layers": (True, False)}, {"attention_cap": None, "final_cap": None}],
    ids=["capped", "window", "uncapped"],
)
def test_packed_rows_give_the_loss_and_gradient_of_padded_ones(
    average: Average, settings: dict[str, object]
) -> None:
    model, padded = model_with(**settings), batch()
    objective = SuffixObjective(model, average=average, label_smoothing=0.1)
    losses = [objective(inputs) for inputs in (padded, pack(padded, LENGTH, SMALL))]
    torch.testing.assert_close(losses[1], losses[0])
    wanted, packed = (torch.autograd.grad(loss, list(model.parameters())) for loss in losses)
    for a, b in zip(packed, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_window_of_the_test_above_matters() -> None:
    losses = {
        SuffixObjective(model_with(sliding_window=window, sliding_layers=(True, False)))(batch()).item()
        for window in (3, None)
    }
    assert len(losses) == 2


def test_packed_rows_give_without_gradient_the_same_loss() -> None:
    objective, packed = SuffixObjective(small_model()), pack(batch(), LENGTH, SMALL)
    with torch.no_grad():
        evaluated = objective(packed)
    torch.testing.assert_close(evaluated, objective(packed).detach())
    assert objective.weight_of(packed) == 9


def test_what_is_not_for_training_has_no_weights_when_packed() -> None:
    prompts = small_processor().encode(examples_on(PICTURES), train=False)
    assert pack(prompts, LENGTH, SMALL).loss_weights is None
