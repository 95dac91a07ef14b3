import pytest
import torch

from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.model.lora import attach, using_adapters
from paligemma2.model.piecewise import finish
from tests.inference.small_decoding import model_of
from tests.small_adapter import EVERYTHING, random_adapter


@pytest.fixture
def small(monkeypatch):
    """A model, and the numbers of pictures that it was given to encode."""
    model, encoded = model_of(8, seed=0), []
    encode = model.encode_images_in_pieces
    monkeypatch.setattr(
        model, "encode_images_in_pieces", lambda pixels: encoded.append(len(pixels)) or encode(pixels)
    )
    return model, encoded


def pictures(count, seed=0):
    return torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def test_only_pictures_that_are_not_known_are_encoded(small):
    model, encoded = small
    images = ImageTokens(model)
    pixels = pictures(3)
    expected = model.encode_images(pixels)
    encoded.clear()
    torch.testing.assert_close(finish(images.encode(pixels[:2])), expected[:2])
    torch.testing.assert_close(finish(images.encode(pixels[[2, 0, 2, 1]])), expected[[2, 0, 2, 1]])
    assert encoded == [2, 1]
    finish(images.encode(pixels))
    assert encoded == [2, 1]


@torch.no_grad()
def test_the_oldest_are_forgotten_when_there_is_no_more_room(small):
    model, encoded = small
    pixels = pictures(3)
    one = model.encode_images(pixels[:1]).nbytes
    encoded.clear()
    images = ImageTokens(model, kept_bytes=2 * one)
    for row in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, because 0 was used last
        finish(images.encode(pixels[row : row + 1]))
    assert encoded == [1, 1, 1, 1]
    nothing = ImageTokens(model, kept_bytes=0)
    torch.testing.assert_close(finish(nothing.encode(pixels)), finish(images.encode(pixels)))


@torch.inference_mode()
def test_weights_that_were_read_in_inference_mode_work_too():
    model, pixels = model_of(8, seed=0), pictures(1)
    assert next(model.parameters()).is_inference()
    images = ImageTokens(model)
    torch.testing.assert_close(finish(images.encode(pixels)), finish(images.encode(pixels)))


@pytest.mark.parametrize("change", ["in place", "by another tensor"])
def test_trained_weights_make_it_forget(small, change):
    model, encoded = small
    images, pixels = ImageTokens(model), pictures(1)
    with torch.no_grad():
        before = finish(images.encode(pixels))
    bias = model.multi_modal_projector.linear.bias
    if change == "in place":
        with torch.no_grad():
            bias.add_(1.0)
    else:
        bias.data = bias.data + 1.0
    with torch.no_grad():
        torch.testing.assert_close(finish(images.encode(pixels)), before + 1.0)
    assert encoded == [1, 1]


@torch.no_grad()
def test_pictures_are_shared_by_adapters_that_leave_the_encoder_alone(small):
    model, encoded = small
    adapters = {"sees": random_adapter(model.config, EVERYTHING), "reads": random_adapter(model.config)}
    attach(model, adapters)
    images, pixels = ImageTokens(model), pictures(2)
    plain = model.encode_images(pixels)
    with using_adapters(["sees"], model.device):
        seen = model.encode_images(pixels)
    encoded.clear()
    got = finish(images.encode(pixels, [0, 0, 1, 0], [None, "sees", "sees", "reads"]))
    assert encoded == [3]
    torch.testing.assert_close(got, torch.stack([plain[0], seen[0], seen[1], plain[0]]))
    assert (plain - seen).abs().max() > 0.1
    torch.testing.assert_close(finish(images.encode(pixels, [1, 0], ["reads", "reads"])), plain[[1, 0]])
    assert encoded == [3, 1]


@torch.no_grad()
def test_an_adapter_that_is_trained_makes_it_forget(small):
    model, encoded = small
    attach(model, {"sees": random_adapter(model.config, EVERYTHING)})
    images, pixels = ImageTokens(model), pictures(1)
    finish(images.encode(pixels))
    model.multi_modal_projector.linear.lora_a[0].add_(1.0)
    finish(images.encode(pixels))
    assert encoded == [1, 1]
