import pytest
import torch

from paligemma2.errors import ConfigError
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.image_cache import ImageCache
from paligemma2.training.objective import SuffixObjective
from tests.training.small_model import SMALL, examples_on, picture, small_model, small_processor

PICTURES = [picture(seed) for seed in range(3)]
PICTURE_BYTES = 4 * SMALL.num_image_tokens * SMALL.vision.hidden_size


class Encoded:
    """Counts the pictures that go through the image encoder of a model."""

    def __init__(self, model: PaliGemma2Model) -> None:
        self.count = 0
        model.vision_tower.register_forward_hook(self._add)

    def _add(self, module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.count += len(inputs[0])


def frozen_model() -> PaliGemma2Model:
    model = small_model()
    model.vision_tower.requires_grad_(False)
    return model


def pixels(*seeds: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(small_processor().pixels(picture(seed))) for seed in seeds])


def test_a_picture_that_comes_again_is_not_encoded_again() -> None:
    model = frozen_model()
    encoded, cache = Encoded(model), ImageCache(2**20)
    first = cache.encode(model, pixels(0, 1, 0))
    assert encoded.count == 2
    second = cache.encode(model, pixels(1, 2))
    assert encoded.count == 3
    assert torch.equal(first[1], second[0])
    torch.testing.assert_close(second, model.encode_images(pixels(1, 2)))


def test_a_batch_has_the_loss_and_the_gradient_that_it_has_without_the_cache() -> None:
    model = frozen_model()
    batch = small_processor().encode(examples_on(PICTURES), train=True)
    plain, cached = SuffixObjective(model), SuffixObjective(model, image_cache=ImageCache(2**20))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for _ in range(2):  # filled, then used
        losses = plain(batch), cached(batch)
        torch.testing.assert_close(losses[1], losses[0])
        wanted, given = (torch.autograd.grad(loss, trained) for loss in losses)
        for a, b in zip(given, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_picture_not_used_for_longest_leaves_first() -> None:
    model = frozen_model()
    encoded, cache = Encoded(model), ImageCache(2 * PICTURE_BYTES)
    for seed in (0, 1, 0, 2):
        cache.encode(model, pixels(seed))
    assert encoded.count == 3
    cache.encode(model, pixels(0))
    assert encoded.count == 3
    cache.encode(model, pixels(1))
    assert encoded.count == 4


def test_an_encoder_that_is_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match="the image encoder is trained"):
        SuffixObjective(small_model(), image_cache=ImageCache(2**20))


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 bytes"):
        ImageCache(0)
