import pytest
import torch

from paligemma2.processing.processor import ModelInputs
from paligemma2.training.micro_batches import split_rows
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Average
from tests.training.small_model import SMALL, examples_on, picture, small_model, small_processor


def inputs() -> ModelInputs:
    return small_processor().encode(examples_on([picture(seed) for seed in range(3)]), train=True)


def test_each_part_is_the_batch_of_its_own_examples() -> None:
    examples = examples_on([picture(seed) for seed in range(3)])
    parts = split_rows(inputs(), 3, SMALL)
    assert len(parts) == 2
    for part, own in zip(parts, (examples[:3], examples[3:]), strict=True):
        expected = small_processor().encode(own, train=True)
        assert torch.equal(part.token_ids, expected.token_ids)
        assert torch.equal(part.layout.segments, expected.layout.segments)
        assert torch.equal(part.layout.is_prefix, expected.layout.is_prefix)
        assert torch.equal(part.layout.positions, expected.layout.positions)
        assert part.loss_weights is not None
        assert expected.loss_weights is not None
        assert torch.equal(part.loss_weights, expected.loss_weights)
        shown = part.pixel_values[part.image_index]
        assert torch.equal(shown, expected.pixel_values[expected.image_index])
        assert len(part.pixel_values) <= len(expected.pixel_values)
        assert part.ids == expected.ids


@pytest.mark.parametrize("size", [None, 4, 9])
def test_a_batch_that_is_small_enough_stays_as_it_is(size: int | None) -> None:
    batch = inputs()
    (only,) = split_rows(batch, size, SMALL)
    assert only is batch


@pytest.mark.parametrize("average", ["example", "token"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_add_up_to_the_gradient_of_the_batch(average: Average, size: int) -> None:
    model, batch = small_model(), inputs()
    objective = SuffixObjective(model, average=average)
    whole = torch.autograd.grad(objective(batch), list(model.parameters()))
    parts = split_rows(batch, size, SMALL)
    weights = [objective.weight_of(part) for part in parts]
    loss = sum(objective(part) * (w / sum(weights)) for part, w in zip(parts, weights, strict=True))
    assert isinstance(loss, torch.Tensor)
    for a, b in zip(torch.autograd.grad(loss, list(model.parameters())), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
