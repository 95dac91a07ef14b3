import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paligemma2.data.synthetic.world import labelled_sample
from paligemma2.model.siglip import SiglipEncoder
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Trainer
from paligemma2.training.vision_stage import DenseBatch, DenseBatches, DenseVisionModel
from tests.training.small_model import SMALL

CONFIG = dataclasses.replace(SMALL.vision, image_size=56)
MAKE = DenseBatches(split="train", config=CONFIG, batch_size=4)
SIZES = {"shape": 10, "color": 9, "letter": 27, "order": 7}


@pytest.fixture(scope="module")
def batch() -> DenseBatch:
    return MAKE(0)


@pytest.fixture
def dense() -> DenseVisionModel:
    torch.manual_seed(0)
    return DenseVisionModel(SiglipEncoder(CONFIG), CONFIG)


def test_a_batch_has_the_shapes_and_ranges_it_promises(batch: DenseBatch) -> None:
    assert batch.pixel_values.shape == (4, 3, 56, 56)
    assert batch.pixel_values.dtype == torch.float32
    assert -1 <= batch.pixel_values.min() < 0 < batch.pixel_values.max() <= 1
    assert batch.classes.keys() == SIZES.keys()
    for values in batch.classes.values():
        assert values.shape == (4, 16)
        assert values.dtype == torch.int64
    assert batch.boxes.shape == (4, 16, 4)
    assert 0 <= batch.boxes.min() <= batch.boxes.max() <= 1


def test_patches_and_labels_run_in_rows_from_the_top() -> None:
    batch = MAKE(1)
    for i, index in enumerate(range(4, 8)):
        _, labels = labelled_sample("train", index, size=56, patch_size=14)
        grid = batch.classes["shape"][i].reshape(4, 4)
        assert torch.equal(grid, torch.from_numpy(labels.shape))
        assert torch.equal(batch.boxes[i].reshape(4, 4, 4), torch.from_numpy(labels.box))


def test_a_batch_is_a_pure_function_of_the_step_and_no_two_are_alike(batch: DenseBatch) -> None:
    again, later = MAKE(0), MAKE(1)
    assert torch.equal(again.pixel_values, batch.pixel_values)
    assert not torch.equal(later.pixel_values, batch.pixel_values)
    shifted = dataclasses.replace(MAKE, first=4)(0)
    assert torch.equal(shifted.pixel_values, later.pixel_values)


def test_the_loss_is_the_cross_entropies_plus_the_distance_of_boxes_on_objects(
    dense: DenseVisionModel, batch: DenseBatch
) -> None:
    logits, boxes = dense(batch.pixel_values)
    expected = 0.0
    for name, values in batch.classes.items():
        log_probs = F.log_softmax(logits[name], dim=-1)
        expected -= log_probs.gather(-1, values[..., None]).mean().item()
    shown = (batch.classes["shape"] > 0) | (batch.classes["letter"] > 0)
    assert 0 < shown.sum() < shown.numel()
    expected += 5.0 * (boxes[shown] - batch.boxes[shown]).abs().mean().item()
    assert dense.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_boxes_of_empty_patches_do_not_count(dense: DenseVisionModel, batch: DenseBatch) -> None:
    shown = (batch.classes["shape"] > 0) | (batch.classes["letter"] > 0)
    moved = dataclasses.replace(batch, boxes=batch.boxes + (~shown)[..., None].float())
    assert dense.loss(moved).item() == dense.loss(batch).item()
    nothing = dataclasses.replace(
        batch, classes={name: torch.zeros_like(values) for name, values in batch.classes.items()}
    )
    assert dense.loss(nothing).isfinite()


def test_perfect_outputs_get_perfect_scores(
    dense: DenseVisionModel, batch: DenseBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, _ = dense(batch.pixel_values)
    perfect = {
        name: 50 * F.one_hot(values, logits[name].shape[-1]).float() for name, values in batch.classes.items()
    }
    monkeypatch.setattr(dense, "forward", lambda pixel_values: (perfect, batch.boxes))
    assert dense.scores(batch) == {**dict.fromkeys(SIZES, 1.0), "box_error": 0.0}
    assert dense.loss(batch).item() == pytest.approx(0.0, abs=1e-5)


def test_each_class_has_its_own_outputs(dense: DenseVisionModel, batch: DenseBatch) -> None:
    logits, boxes = dense(batch.pixel_values)
    for name, values in batch.classes.items():
        assert logits[name].shape[:2] == (4, 16)
        assert values.max() < logits[name].shape[-1]
    assert isinstance(dense.head, nn.Linear)
    assert sum(part.shape[-1] for part in logits.values()) + boxes.shape[-1] == dense.head.out_features


def test_the_encoder_learns_a_batch_by_heart(dense: DenseVisionModel, batch: DenseBatch) -> None:
    before = dense.loss(batch).item()
    weight = dense.encoder.embeddings.patch_embedding.weight.detach().clone()
    recipe = Recipe(steps=40, learning_rate=5e-3, optimizer="muon", log_every=40)
    Trainer(dense, recipe, dense.loss).fit(lambda start, stop: (batch for _ in range(start, stop)))
    assert dense.loss(batch).item() < 0.5 * before
    assert not torch.equal(dense.encoder.embeddings.patch_embedding.weight, weight)
