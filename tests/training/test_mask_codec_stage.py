import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from paligemma2.model.mask_codec import MaskCodec
from paligemma2.training.mask_codec_stage import (
    MASK_CODEC_CONFIG,
    STAGE_NAME,
    MaskBatch,
    MaskBatches,
    MaskCodecTraining,
    initialize_codec,
    nearest_neighbours,
    train_mask_codec,
)
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Progress, Trainer

MAKE = MaskBatches(split="train", batch_size=6)


@pytest.fixture(scope="module")
def batch() -> MaskBatch:
    return MAKE(3)


@pytest.fixture
def training() -> MaskCodecTraining:
    torch.manual_seed(0)
    codec = MaskCodec(MASK_CODEC_CONFIG)
    initialize_codec(codec)
    return MaskCodecTraining(codec, quantise_from=3, revive_until=100)


def at(batch: MaskBatch, step: int) -> MaskBatch:
    return MaskBatch(clean=batch.clean, changed=batch.changed, step=step)


def test_a_batch_has_pairs_of_almost_equal_masks(batch: MaskBatch) -> None:
    assert batch.clean.shape == batch.changed.shape == (6, 64, 64)
    for masks in (batch.clean, batch.changed):
        assert masks.dtype == torch.float32
        assert 0 <= masks.min() < 0.1 < 0.9 < masks.max() <= 1
    apart = (batch.clean[:, None] - batch.changed[None]).abs().mean((2, 3))
    assert torch.equal(apart.argmin(1), torch.arange(6))
    assert apart.diagonal().min() > 0


def test_a_batch_is_a_pure_function_of_the_step(batch: MaskBatch) -> None:
    again, later = MAKE(3), MAKE(4)
    assert torch.equal(again.clean, batch.clean)
    assert torch.equal(again.changed, batch.changed)
    assert not torch.equal(later.clean, batch.clean)


def test_the_first_weights_keep_the_size_of_what_passes(
    training: MaskCodecTraining, batch: MaskBatch
) -> None:
    cells = training.codec.cells(batch.clean)
    assert 0.2 < cells.std() < 5
    masks: Tensor = training.codec.decoder(torch.randn(4, MASK_CODEC_CONFIG.embedding_size, 4, 4))
    assert 0.1 < masks.std() < 5


def test_the_codebook_rests_until_it_starts_from_cells(training: MaskCodecTraining, batch: MaskBatch) -> None:
    before = training.codec.codebook.vectors.clone()
    training.loss(at(batch, 2))
    assert torch.equal(training.codec.codebook.vectors, before)
    training.loss(at(batch, 3))
    cells = training.codec.cells(batch.changed).permute(0, 2, 3, 1).flatten(0, 2)
    nearest = torch.cdist(training.codec.codebook.vectors, cells).amin(1)
    assert (nearest < 0.1 * cells.std() * cells.shape[1] ** 0.5).float().mean() > 0.9


def test_the_codebook_goes_to_the_mean_of_its_cells(training: MaskCodecTraining) -> None:
    vectors = training.codec.codebook.vectors
    points = torch.stack([vectors[5] + 0.1, vectors[5] - 0.3, vectors[9] + 0.2])
    codes = torch.tensor([5, 5, 9])
    before, target = vectors.clone(), vectors[5] - 0.1
    for _ in range(200):
        training._follow(points, codes, torch.Generator(), step=100)
    assert torch.allclose(vectors[5], target, atol=1e-2)
    assert torch.allclose(vectors[9], before[9] + 0.2, atol=1e-2)
    assert torch.allclose(vectors[7], before[7], atol=1e-4)


def test_the_codebook_follows_in_float32_where_products_run_in_bfloat16(
    training: MaskCodecTraining, batch: MaskBatch
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        training.loss(at(batch, 2)).backward()
        training.loss(at(batch, 3)).backward()
        training.loss(at(batch, 4)).backward()
    assert training.codec.codebook.vectors.dtype == training.sums.dtype == torch.float32
    assert not torch.equal(training.sums, training.sums.bfloat16().float())


def test_unused_codes_start_anew_where_cells_are_until_the_end_of_revival(
    training: MaskCodecTraining,
) -> None:
    points, codes = torch.full((4, MASK_CODEC_CONFIG.embedding_size), 7.0), torch.zeros(4, dtype=torch.long)
    training.counts.data.fill_(0.1)
    training._follow(points, codes, torch.Generator(), step=100)
    assert not torch.isclose(training.codec.codebook.vectors[1:], torch.tensor(7.0)).any()
    training._follow(points, codes, torch.Generator(), step=99)
    assert torch.allclose(training.codec.codebook.vectors[1:], torch.tensor(7.0))


def test_some_codes_are_swapped_for_one_of_the_four_nearest(training: MaskCodecTraining) -> None:
    codes = torch.randint(128, (500, 16), generator=torch.Generator().manual_seed(0))
    swapped = training._swap(codes, torch.Generator().manual_seed(1))
    is_swapped = swapped != codes
    assert is_swapped.float().mean() == pytest.approx(0.12, abs=0.02)
    near = nearest_neighbours(training.codec.codebook.vectors, 4)[codes]
    assert (near == swapped[..., None]).any(-1)[is_swapped].all()


def test_neighbours_are_the_nearest_others_and_come_nearest_first() -> None:
    vectors = torch.tensor([0.0, 1.0, 3.0, 7.0])[:, None]
    assert nearest_neighbours(vectors, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_the_gradient_passes_the_codes_by(training: MaskCodecTraining, batch: MaskBatch) -> None:
    training.loss(at(batch, 4)).backward()  # type: ignore[no-untyped-call]
    trained = {name: p.grad for name, p in training.named_parameters() if p.requires_grad}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in trained.values())
    assert not any(name.endswith(("_embedding", "counts", "sums")) for name in trained)


def test_a_pair_that_agrees_costs_less(training: MaskCodecTraining, batch: MaskBatch) -> None:
    equal = MaskBatch(clean=batch.changed, changed=batch.changed, step=0)
    other = MaskBatch(clean=batch.changed.flip(0), changed=batch.changed, step=0)
    assert training.loss(equal) < training.loss(other)


def test_the_codec_learns_masks_by_heart(training: MaskCodecTraining) -> None:
    batch = MaskBatches(split="train", batch_size=3)(3)
    training.quantise_from = 20
    recipe = Recipe(steps=40, learning_rate=4e-3, log_every=40)
    Trainer(training, recipe, training.loss).fit(
        lambda start, stop: (at(batch, step) for step in range(start, stop))
    )
    target = 2 * batch.clean - 1
    restored = training.codec.decode(training.codec.encode(batch.clean))
    assert (restored - target).square().mean() < 0.5 * (target.mean(0) - target).square().mean()


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    recipe = Recipe(steps=6, batch_size=2, learning_rate=1e-3, checkpoint_every=3, log_every=2)
    seen: list[tuple[str, int]] = []

    def note(name: str, progress: Progress) -> None:
        seen.append((name, progress.step))

    whole = train_mask_codec(recipe, tmp_path / "whole", num_workers=0, on_progress=note)
    assert seen == [(STAGE_NAME, 2), (STAGE_NAME, 4), (STAGE_NAME, 6)]
    (tmp_path / "stopped").mkdir()
    shutil.copytree(tmp_path / "whole" / "step-0000003", tmp_path / "stopped" / "step-0000003")
    shutil.copy(tmp_path / "whole" / "log.jsonl", tmp_path / "stopped")
    seen.clear()
    resumed = train_mask_codec(recipe, tmp_path / "stopped", num_workers=0, on_progress=note)
    assert [step for _, step in seen] == [4, 6]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
        assert tensor.is_contiguous()
