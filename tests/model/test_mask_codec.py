import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paligemma2.errors import ConfigError, InputError
from paligemma2.model.mask_codec import Codebook, MaskCodec, MaskCodecConfig, encode_masks

SMALL = MaskCodecConfig(embedding_size=6)
TOLERANCE = 1e-3  # outputs reach 45; the same sums in another order differ by less than 1e-4
CODES = st.lists(st.integers(0, 127), min_size=16, max_size=16)


@pytest.fixture(scope="module")
def codec() -> MaskCodec:
    torch.manual_seed(0)
    return MaskCodec(SMALL).eval().requires_grad_(False)


def random_masks(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 64, 64, generator=torch.Generator().manual_seed(seed))


# --- the stored reference ---------------------------------------------------------------------------------


def golden_script(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("vqvae_golden", folder / "vqvae_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def golden_codec(golden_model: Path) -> MaskCodec:
    """The official architecture with the random weights of the script beside the golden numbers."""
    weights = golden_script(golden_model).weights()
    codec = MaskCodec(MaskCodecConfig()).eval().requires_grad_(False)
    codec.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, strict=True)
    return codec


@pytest.fixture
def expected(golden_model: Path) -> dict[str, Tensor]:
    with np.load(golden_model / "vqvae_expected.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.mark.golden
def test_mask_codec_decodes_as_the_reference_does(
    golden_codec: MaskCodec, expected: dict[str, Tensor]
) -> None:
    masks = golden_codec.decode(expected["indices"])
    assert (masks - expected["masks_out"]).abs().max() < TOLERANCE


@pytest.mark.golden
def test_mask_codec_encodes_as_the_reference_does(
    golden_codec: MaskCodec, expected: dict[str, Tensor]
) -> None:
    masks = expected["encode_masks"].float()
    cells = golden_codec.cells(masks).permute(0, 2, 3, 1)
    assert (cells - expected["encoder_out"]).abs().max() < TOLERANCE
    assert torch.equal(golden_codec.encode(masks), expected["encode_ids"].long())
    from_pictures = encode_masks(golden_codec, list(expected["encode_masks"].numpy() * np.uint8(255)))
    assert from_pictures == [tuple(codes) for codes in expected["encode_ids"].tolist()]


@pytest.mark.golden
def test_mask_codec_has_as_many_numbers_as_the_official_file(golden_codec: MaskCodec) -> None:
    state = golden_codec.state_dict()
    averages = 128 + 128 * 512  # the file also holds what its codebook was made from
    size = 4 * (sum(tensor.numel() for tensor in state.values()) + averages)
    assert 0 < 8_479_556 - size < 300 * (len(state) + 2)  # a header for each array


# --- codes and cells --------------------------------------------------------------------------------------


@given(codes=CODES)
@settings(max_examples=30, deadline=None)
def test_codes_stand_in_rows_from_the_top(codes: list[int]) -> None:
    torch.manual_seed(1)
    codebook = Codebook(SMALL)
    cells = codebook(torch.tensor([codes]))
    assert cells.shape == (1, 6, 4, 4)
    for place, code in enumerate(codes):
        assert torch.equal(cells[0, :, place // 4, place % 4], codebook.vectors[code])
    assert codebook.nearest(cells).tolist() == [codes]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_nearest_code_is_the_nearest(seed: int) -> None:
    torch.manual_seed(seed)
    codebook = Codebook(SMALL)
    cells = torch.randn(2, 6, 4, 4)
    distances = (cells.flatten(2).transpose(1, 2)[:, :, None] - codebook.vectors).square().sum(-1)
    chosen = distances.gather(-1, codebook.nearest(cells)[..., None])[..., 0]
    assert torch.allclose(chosen, distances.amin(-1), atol=1e-4)


def test_masks_become_codes_and_codes_masks(codec: MaskCodec) -> None:
    codes = codec.encode(random_masks(3))
    assert (codes.shape, codes.dtype) == ((3, 16), torch.int64)
    assert 0 <= codes.min() <= codes.max() < 128
    masks = codec.decode(codes)
    assert (masks.shape, masks.dtype) == ((3, 64, 64), torch.float32)


def test_masks_with_and_without_a_channel_have_the_same_codes(codec: MaskCodec) -> None:
    masks = random_masks(2)
    assert torch.equal(codec.encode(masks), codec.encode(masks[:, None]))


def test_masks_of_a_batch_do_not_see_each_other(codec: MaskCodec) -> None:
    masks = random_masks(3)
    apart = torch.cat([codec.cells(mask[None]) for mask in masks])
    assert torch.allclose(codec.cells(masks), apart, atol=1e-5)


def test_a_corner_of_the_mask_moves_its_own_cell_most(codec: MaskCodec) -> None:
    before, after = torch.zeros(1, 64, 64), torch.zeros(1, 64, 64)
    after[:, 48:, :16] = 1.0
    change = (codec.cells(after) - codec.cells(before)).square().sum(1)[0]
    assert divmod(int(change.argmax()), 4) == (3, 0)


def test_numbers_beside_the_scale_of_the_masks_are_not_codes(codec: MaskCodec) -> None:
    with pytest.raises(InputError, match=r"no mask code 128 \(codes go from 0 to 127"):
        codec.decode(torch.full((1, 16), 128))
    with pytest.raises(InputError, match="no mask code -1"):
        codec.decode(torch.full((1, 16), -1))


@pytest.mark.parametrize(
    "codes", [torch.zeros(16, dtype=torch.long), torch.zeros(2, 15, dtype=torch.long), torch.zeros(1, 16)]
)
def test_codes_of_another_shape_or_type_are_refused(codec: MaskCodec, codes: Tensor) -> None:
    with pytest.raises(InputError, match=r"integers \[batch, 16\]"):
        codec.decode(codes)


@pytest.mark.parametrize(
    "masks",
    [
        torch.zeros(64, 64),
        torch.zeros(1, 32, 32),
        torch.zeros(1, 3, 64, 64),
        torch.zeros(1, 64, 64, dtype=torch.uint8),
    ],
)
def test_masks_of_another_shape_or_type_are_refused(codec: MaskCodec, masks: Tensor) -> None:
    with pytest.raises(InputError, match=r"floats \[batch, 64, 64\]"):
        codec.encode(masks)


def test_a_codebook_needs_a_dimension() -> None:
    with pytest.raises(ConfigError, match="embedding_size is 0"):
        MaskCodecConfig(embedding_size=0)


# --- masks as arrays --------------------------------------------------------------------------------------


def test_arrays_have_the_codes_of_their_tensors(codec: MaskCodec) -> None:
    pixels = (random_masks(5) * 255).to(torch.uint8)
    codes = encode_masks(codec, list(pixels.numpy()))
    assert codes == [tuple(row) for row in codec.encode(pixels.float() / 255).tolist()]


def test_flags_have_the_codes_of_black_and_white(codec: MaskCodec) -> None:
    flags = (random_masks(3) > 0.5).numpy()
    assert encode_masks(codec, list(flags)) == encode_masks(codec, list(flags * np.uint8(255)))


def test_no_masks_have_no_codes(codec: MaskCodec) -> None:
    assert encode_masks(codec, []) == []


@pytest.mark.parametrize(
    "mask", [np.zeros((32, 64), np.uint8), np.zeros((64, 64), np.float32), np.zeros((1, 64, 64), np.bool_)]
)
def test_arrays_of_another_shape_or_type_are_refused(codec: MaskCodec, mask: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"uint8 or bool \[64, 64\]"):
        encode_masks(codec, [mask])
