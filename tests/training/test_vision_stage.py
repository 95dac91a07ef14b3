import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paligemma2.data.synthetic.world import labelled_sample
from paligemma2.model.siglip import SiglipEncoder
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Trainer
from paligemma2.training.vision_stage import DenseBatch, DenseBatches, DenseVisionModel, edge_targets
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


def test_the_two_nearest_bins_share_an_edge() -> None:
    middle = 0.25 * 5 / 63 + 0.75 * 6 / 63
    targets = edge_targets(torch.tensor([0.0, 1.0, middle, 10 / 63]))
    assert targets.shape == (4, 64)
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(4))
    torch.testing.assert_close(targets[2, 5:7], torch.tensor([0.25, 0.75]), atol=1e-5, rtol=0)
    for edge, place in ((0, 0), (1, 63), (3, 10)):
        assert targets[edge, place].item() == pytest.approx(1.0, abs=1e-5)


def test_the_loss_is_the_cross_entropies_of_classes_and_of_edges_on_objects(
    dense: DenseVisionModel, batch: DenseBatch
) -> None:
    logits, edges = dense(batch.pixel_values)
    expected = 0.0
    for name, values in batch.classes.items():
        log_probs = F.log_softmax(logits[name], dim=-1)
        expected -= log_probs.gather(-1, values[..., None]).mean().item()
    shown = (batch.classes["shape"] > 0) | (batch.classes["letter"] > 0)
    assert 0 < shown.sum() < shown.numel()
    log_probs = F.log_softmax(edges[shown], dim=-1)
    expected -= 0.25 * (edge_targets(batch.boxes[shown]) * log_probs).sum(dim=-1).mean().item()
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
    on_bins = dataclasses.replace(batch, boxes=(batch.boxes * 63).round() / 63)
    edges = 50 * edge_targets(on_bins.boxes)
    monkeypatch.setattr(dense, "forward", lambda pixel_values: (perfect, edges))
    scores = dense.scores(on_bins)
    assert scores.pop("box_error") == pytest.approx(0.0, abs=1e-6)
    assert scores == dict.fromkeys(SIZES, 1.0)
    assert dense.loss(on_bins).item() == pytest.approx(0.0, abs=1e-5)


def test_the_box_error_is_the_distance_to_the_expected_edge(
    dense: DenseVisionModel, batch: DenseBatch
) -> None:
    _, edges = dense(batch.pixel_values)
    shown = (batch.classes["shape"] > 0) | (batch.classes["letter"] > 0)
    places = torch.arange(64) / 63
    expected = ((edges.softmax(-1) * places).sum(-1) - batch.boxes)[shown].abs().mean().item()
    assert dense.scores(batch)["box_error"] == pytest.approx(expected, rel=1e-4)


def test_each_class_has_its_own_outputs(dense: DenseVisionModel, batch: DenseBatch) -> None:
    logits, edges = dense(batch.pixel_values)
    for name, values in batch.classes.items():
        assert logits[name].shape[:2] == (4, 16)
        assert values.max() < logits[name].shape[-1]
    assert isinstance(dense.head, nn.Linear)
    assert sum(part.shape[-1] for part in logits.values()) + edges[0, 0].numel() == dense.head.out_features


def test_the_encoder_learns_a_batch_by_heart(dense: DenseVisionModel, batch: DenseBatch) -> None:
    before = dense.loss(batch).item()
    weight = dense.encoder.embeddings.patch_embedding.weight.detach().clone()
    recipe = Recipe(steps=40, learning_rate=5e-3, optimizer="muon", log_every=40)
    Trainer(dense, recipe, dense.loss).fit(lambda start, stop: (batch for _ in range(start, stop)))
    assert dense.loss(batch).item() < 0.5 * before
    assert not torch.equal(dense.encoder.embeddings.patch_embedding.weight, weight)
