import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.model.config import VisionConfig
from paligemma2.model.siglip import SiglipEncoder, raise_resolution

CONFIG = VisionConfig(
    image_size=28, patch_size=7, hidden_size=24, num_layers=2, num_heads=3, intermediate_size=40
)


@pytest.fixture
def encoder() -> SiglipEncoder:
    torch.manual_seed(0)
    return SiglipEncoder(CONFIG).eval()


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_every_patch_becomes_one_vector(encoder: SiglipEncoder) -> None:
    assert encoder(images(2)).shape == (2, CONFIG.num_image_tokens, CONFIG.hidden_size)


def test_every_patch_sees_every_patch(encoder: SiglipEncoder) -> None:
    before, changed = images(1), images(1)
    changed[..., -1, -1] += 1.0
    assert (encoder(before) - encoder(changed)).abs().amax(-1).gt(1e-6).all()


def test_images_of_a_batch_do_not_see_each_other(encoder: SiglipEncoder) -> None:
    together = encoder(images(3))
    apart = torch.cat([encoder(image[None]) for image in images(3)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_patches_are_read_row_by_row(encoder: SiglipEncoder) -> None:
    base, changed = torch.zeros(1, 3, 28, 28), torch.zeros(1, 3, 28, 28)
    changed[..., 7:14, 21:28] = 1.0  # row 1, column 3 of a grid of 4
    difference = (encoder.embeddings(base) - encoder.embeddings(changed)).abs().amax(-1)[0]
    assert difference.nonzero().flatten().tolist() == [1 * 4 + 3]


def test_an_image_of_another_size_is_refused(encoder: SiglipEncoder) -> None:
    with pytest.raises(InputError, match="28×35 pixels, the model needs 28×28"):
        encoder(torch.zeros(1, 3, 28, 35))


def test_pixels_take_the_dtype_of_the_weights(encoder: SiglipEncoder) -> None:
    assert encoder.bfloat16()(images(1)).dtype == torch.bfloat16


@pytest.mark.parametrize(("old", "new"), [(2, 5), (4, 4), (3, 7), (16, 32), (5, 3), (1, 3), (4, 1)])
def test_positions_are_raised_as_scipy_zoom_does(old: int, new: int) -> None:
    width = 6
    positions = torch.randn(old**2, width, generator=torch.Generator().manual_seed(old))
    grid = positions.numpy().reshape(old, old, width)
    expected = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1).reshape(new**2, width)
    raised = raise_resolution(positions, new)
    assert raised.shape == (new**2, width)
    np.testing.assert_allclose(raised.numpy(), expected, atol=1e-5, rtol=0)


def test_raising_to_the_same_grid_changes_nothing_and_corners_always_stay() -> None:
    positions = torch.randn(9, 4)
    torch.testing.assert_close(raise_resolution(positions, 3), positions)
    raised = raise_resolution(positions, 8).view(8, 8, 4)
    torch.testing.assert_close(raised[[0, 0, -1, -1], [0, -1, 0, -1]], positions[[0, 2, 6, 8]])


def test_raised_positions_keep_their_dtype_and_load_into_a_larger_encoder(encoder: SiglipEncoder) -> None:
    larger = SiglipEncoder(dataclasses.replace(CONFIG, image_size=42))
    weights = encoder.state_dict()
    name = "embeddings.position_embedding.weight"
    weights[name] = raise_resolution(weights[name].bfloat16(), 6)
    assert weights[name].dtype == torch.bfloat16
    larger.load_state_dict(weights, strict=True)
    assert larger(torch.zeros(1, 3, 42, 42)).shape == (1, 36, 24)


def test_positions_of_no_square_grid_are_refused() -> None:
    with pytest.raises(InputError, match="5 position embeddings do not form a square grid"):
        raise_resolution(torch.zeros(5, 4), 2)
