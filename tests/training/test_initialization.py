import itertools

import pytest
import torch
from torch import Tensor, nn

from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.training.initialization import initialize
from tests.training.small_model import SMALL, TINY, TOKENIZER_JSON, small_model

LOCATIONS = Tokenizer.from_json(TOKENIZER_JSON, TINY).location_ids


@pytest.fixture(scope="module")
def tiny() -> PaliGemma2Model:
    model = PaliGemma2Model(TINY)
    initialize(model, LOCATIONS, seed=20)
    return model


def mean_cosine(rows: Tensor, distance: int) -> float:
    return torch.cosine_similarity(rows[:-distance], rows[distance:], dim=-1).mean().item()


def test_neighbouring_locations_start_out_more_alike_than_far_ones(tiny: PaliGemma2Model) -> None:
    rows = tiny.language_model.embed_tokens.weight.detach()[LOCATIONS.start : LOCATIONS.stop]
    near, middle, far = (mean_cosine(rows, distance) for distance in (1, 20, 400))
    assert near > 0.85
    assert near > middle > far
    assert far < 0.4


def test_other_tokens_start_out_unlike_each_other(tiny: PaliGemma2Model) -> None:
    rows = tiny.language_model.embed_tokens.weight.detach()
    assert abs(mean_cosine(rows[: LOCATIONS.start], 1)) < 0.05
    assert abs(mean_cosine(rows[LOCATIONS.stop :], 1)) < 0.05


def test_embeddings_have_unit_size_after_the_scale_of_the_decoder(tiny: PaliGemma2Model) -> None:
    rows = tiny.language_model.embed_tokens.weight.detach() * tiny.config.text.scale
    for part in (rows[: LOCATIONS.start], rows[LOCATIONS.start : LOCATIONS.stop], rows[LOCATIONS.stop :]):
        assert part.square().mean().item() == pytest.approx(1.0, rel=0.1)


def test_neighbouring_patches_start_out_more_alike_than_far_ones(tiny: PaliGemma2Model) -> None:
    size = tiny.config.vision.grid_size
    weight = tiny.vision_tower.embeddings.position_embedding.weight.detach()
    grid = weight.reshape(size, size, -1)
    for lines in (grid, grid.transpose(0, 1)):
        flat = lines.flatten(1)
        assert mean_cosine(flat, 1) > mean_cosine(flat, 4)


def test_linear_layers_keep_the_size_of_what_goes_through_them(tiny: PaliGemma2Model) -> None:
    for name, module in tiny.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((1.5 * fan_in) ** -0.5, rel=0.05), name
            assert module.bias is None or not module.bias.any(), name


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = small_model(seed=5)
    torch.manual_seed(2)
    again, other = small_model(seed=5), small_model(seed=6)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    differs = [not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)]
    assert sum(differs) >= sum(p.dim() >= 2 for p in first.parameters())


def test_the_untrained_model_is_about_as_unsure_as_chance() -> None:
    model = small_model().eval()
    logits = torch.randn(50, SMALL.text.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probabilities = model.language_model.logits(logits).softmax(-1)
    assert probabilities.max() < 0.2
    assert all(p.isfinite().all() for p in itertools.chain(model.parameters()))
