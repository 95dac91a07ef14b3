import numpy as np
import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference.masks import with_masks
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig
from paligemma2.processing.masks import paste_mask
from paligemma2.types import Box, Detection

HEIGHT, WIDTH = 48, 80


@pytest.fixture(scope="module")
def codec() -> MaskCodec:
    torch.manual_seed(0)
    codec = MaskCodec(MaskCodecConfig(embedding_size=5)).eval()
    torch.nn.init.normal_(codec.codebook.vectors, std=30)  # so that codes make a difference
    middle = codec.decode(torch.randint(0, 128, (64, 16))).median()
    codec.decoder[-1].bias.data -= middle  # so that half of a mask is inside
    return codec


def found(seed: int, *, has_codes: bool = True) -> Detection:
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0, 0.5, 2)
    box = Box(y_min=y, x_min=x, y_max=y + rng.uniform(0.2, 0.5), x_max=x + rng.uniform(0.2, 0.5))
    codes = tuple(int(code) for code in rng.integers(0, 128, 16)) if has_codes else ()
    return Detection(label=f"thing {seed}", box=box, score=0.5, codes=codes)


@pytest.mark.parametrize("convention", ["evaluator", "demo"])
def test_a_mask_is_what_its_codes_mean_inside_its_box(codec, convention) -> None:
    objects = [found(seed, has_codes=seed % 3 > 0) for seed in range(9)]
    masked = with_masks(objects, codec, HEIGHT, WIDTH, convention=convention)
    assert list(masked) == objects  # all but the masks
    for each in masked:
        if not each.codes:
            assert each.mask is None
            continue
        window = codec.decode(torch.tensor([each.codes]))[0].detach().numpy()
        expected = paste_mask(window, each.box, HEIGHT, WIDTH, convention=convention)
        assert each.mask is not None
        assert (each.mask.shape, each.mask.dtype) == ((HEIGHT, WIDTH), np.bool_)
        assert np.mean(each.mask == expected) > 0.999  # a batch of masks sums in another order
    assert len({each.mask.tobytes() for each in masked if each.mask is not None}) == 6


def test_many_objects_are_decoded_in_parts(codec) -> None:
    objects = [found(seed) for seed in range(300)]
    masked = with_masks(objects, codec, 8, 8)
    alone = with_masks(objects[-1:], codec, 8, 8)
    assert len(masked) == 300
    np.testing.assert_array_equal(masked[-1].mask, alone[0].mask)


def test_no_object_gives_none(codec) -> None:
    assert with_masks([], codec, HEIGHT, WIDTH) == ()


def test_codes_that_no_codec_has_are_refused(codec) -> None:
    wrong = Detection(label="cat", box=Box(y_min=0, x_min=0, y_max=1, x_max=1), codes=(128,) * 16)
    with pytest.raises(InputError, match="128"):
        with_masks([wrong], codec, HEIGHT, WIDTH)
