import dataclasses

import pytest
import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.loss import LocationSpread, average_losses, token_losses
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Average
from tests.training.small_model import examples_on, picture, small_model, small_processor

PICTURES = [picture(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def model() -> PaliGemma2Model:
    return small_model()


@pytest.fixture(scope="module")
def inputs() -> ModelInputs:
    return small_processor().encode(examples_on(PICTURES), train=True)


def gradients(model: PaliGemma2Model, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("average", ["example", "token"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("sigma", [None, 8.0])
def test_selecting_the_suffix_changes_neither_loss_nor_gradient(
    model: PaliGemma2Model,
    inputs: ModelInputs,
    average: Average,
    label_smoothing: float,
    sigma: float | None,
) -> None:
    locations = small_processor().tokenizer.location_ids
    spread = None
    if sigma is not None:
        spread = LocationSpread(first_id=locations.start, num_locations=len(locations), sigma=sigma)
    objective = SuffixObjective(
        model, average=average, label_smoothing=label_smoothing, location_spread=spread
    )
    assert inputs.loss_weights is not None
    logits = model(inputs.token_ids, inputs.pixel_values[inputs.image_index], inputs.layout)
    losses = token_losses(
        logits[:, :-1],
        inputs.token_ids[:, 1:],
        label_smoothing=label_smoothing,
        location_spread=spread,
    )
    whole = average_losses(losses, inputs.loss_weights[:, 1:], average=average)
    selected = objective(inputs)
    torch.testing.assert_close(selected, whole)
    for a, b in zip(gradients(model, selected), gradients(model, whole), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_settings_matter(model: PaliGemma2Model, inputs: ModelInputs) -> None:
    locations = small_processor().tokenizer.location_ids
    spread = LocationSpread(first_id=locations.start, num_locations=len(locations), sigma=8.0)
    losses = {
        SuffixObjective(model)(inputs).item(),
        SuffixObjective(model, average="token")(inputs).item(),
        SuffixObjective(model, label_smoothing=0.3)(inputs).item(),
        SuffixObjective(model, location_spread=spread)(inputs).item(),
    }
    assert len(losses) == 4


def test_a_shared_picture_is_encoded_once_and_gives_the_loss_of_copies(
    model: PaliGemma2Model, inputs: ModelInputs
) -> None:
    copies = [
        dataclasses.replace(example, images=tuple(image.copy() for image in example.images))  # type: ignore[union-attr]
        for example in examples_on(PICTURES)
    ]
    duplicated = small_processor().encode(copies, train=True)
    assert len(inputs.pixel_values) == 3
    assert len(duplicated.pixel_values) == 5
    objective = SuffixObjective(model)
    shared_loss, copied_loss = objective(inputs), objective(duplicated)
    torch.testing.assert_close(shared_loss, copied_loss)
    for a, b in zip(gradients(model, shared_loss), gradients(model, copied_loss), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_pictures_are_put_where_they_belong(model: PaliGemma2Model) -> None:
    processor, objective = small_processor(), SuffixObjective(model)
    right, wrong = (
        objective(processor.encode(examples_on(pictures), train=True)).item()
        for pictures in (PICTURES, [PICTURES[1], PICTURES[0], PICTURES[2]])
    )
    assert right != wrong


def test_a_batch_has_the_mean_loss_of_its_examples(model: PaliGemma2Model, inputs: ModelInputs) -> None:
    processor, objective = small_processor(), SuffixObjective(model)
    alone = [objective(processor.encode([example], train=True)) for example in examples_on(PICTURES)]
    torch.testing.assert_close(objective(inputs), torch.stack(alone).mean())


def test_a_batch_without_suffixes_is_refused(model: PaliGemma2Model) -> None:
    prompts = small_processor().encode(examples_on(PICTURES), train=False)
    with pytest.raises(InputError, match="no loss weights"):
        SuffixObjective(model)(prompts)


@pytest.mark.parametrize("average", ["example", "token"])
def test_parts_of_a_batch_add_up_to_its_loss_and_gradient(model: PaliGemma2Model, average: Average) -> None:
    processor, objective = small_processor(), SuffixObjective(model, average=average)
    examples = examples_on(PICTURES)
    parts = [processor.encode(examples[:3], train=True), processor.encode(examples[3:], train=True)]
    total = sum(objective.weight_of(part) for part in parts)
    whole = objective(processor.encode(examples, train=True))
    summed = torch.stack([objective(part) * (objective.weight_of(part) / total) for part in parts]).sum()
    torch.testing.assert_close(summed, whole)
    for a, b in zip(gradients(model, summed), gradients(model, whole), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_batch_weighs_as_much_as_it_has_examples_or_suffix_tokens(
    model: PaliGemma2Model, inputs: ModelInputs
) -> None:
    assert inputs.loss_weights is not None
    assert SuffixObjective(model).weight_of(inputs) == 4
    tokens = SuffixObjective(model, average="token").weight_of(inputs)
    assert tokens == inputs.loss_weights.sum().item() > 4


def test_a_table_that_is_no_matrix_gives_the_same_loss(inputs: ModelInputs) -> None:
    class Asked(torch.nn.Embedding):
        def logits(self, hidden: Tensor) -> Tensor:
            return torch.nn.functional.linear(hidden, self.weight).float()

    model = small_model()
    options = {"label_smoothing": 0.1, "average": "token"}
    wanted = SuffixObjective(model, **options)(inputs)  # type: ignore[arg-type]
    table = model.language_model.embed_tokens.weight
    model.language_model.embed_tokens = Asked(*table.shape, _weight=table)
    torch.testing.assert_close(SuffixObjective(model, **options)(inputs), wanted)  # type: ignore[arg-type]
