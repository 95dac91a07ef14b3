"""The stages in which the small model is pre-trained, in the order of the real one's.

Stage 0 teaches the image encoder alone to see (the real model starts from SigLIP), stage 1 trains the whole
model, stage 2 goes on at a higher resolution and adds masks (PaliGemma, arXiv:2407.07726, section 3.2, in
miniature). In each of them the learning rate runs out.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from paligemma2.checkpoint.mask_codec_files import LoadedMaskCodec
from paligemma2.data.loader import load_batches
from paligemma2.model.config import PRESETS, ModelConfig
from paligemma2.model.mask_codec import encode_masks
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.siglip import raise_resolution
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.training.initialization import initialize
from paligemma2.training.joint_stage import JointBatches, JointObjective, Mixture
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Progress, ProgressCallback, Trainer
from paligemma2.training.vision_stage import DenseBatch, DenseBatches, DenseVisionModel

SEED = 20


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: its name, the side of its pictures in pixels, what a batch holds, and its recipe.

    `mixture` is None for stage 0, which trains the image encoder alone.
    """

    name: str
    image_size: int
    recipe: Recipe
    mixture: Mixture | None = None


_MIXTURE = Mixture(scenes=14, words=26, pairs=5, says=2, rows_per_scene=4, rows_per_pair=3)
_MASK_MIXTURE = dataclasses.replace(_MIXTURE, segmented=4)

_JOINT_RECIPE = Recipe(
    steps=700,
    batch_size=_MIXTURE.rows,
    optimizer="muon",
    learning_rate=1.5e-3,
    muon_learning_rate=0.015,
    location_sigma=8.0,
    checkpoint_every=100,
)

TINY_STAGES = (
    Stage(
        name="stage0",
        image_size=112,
        recipe=Recipe(
            steps=1800,
            batch_size=64,
            optimizer="muon",
            learning_rate=1.5e-3,
            muon_learning_rate=0.02,
            checkpoint_every=150,
        ),
    ),
    Stage(name="stage1", image_size=98, mixture=_MIXTURE, recipe=_JOINT_RECIPE),
    Stage(
        name="stage2",
        image_size=112,
        mixture=_MASK_MIXTURE,
        recipe=dataclasses.replace(
            _JOINT_RECIPE,
            steps=740,
            batch_size=_MASK_MIXTURE.rows,
            learning_rate=1e-3,
            muon_learning_rate=0.01,
            average_decay=0.99,
        ),
    ),
)


LATER_WORDS = (
    *("new", "nothing", "or", "describe", "cap", "question", "mask", "image", "images", "text"),
    *("word", "letter"),
    *("number", "small", "large", "big", "white", "gray", "pink", "line", "on", "not", "than"),
    *("other", "this", "that", "it", "find", "read", "name", "code"),
)
"""Words that the tokenizer has and pre-training does not use, so that later tasks change no id."""


def train_stages(
    stages: tuple[Stage, ...],
    tokenizer_json: str,
    folder: Path,
    *,
    codec: LoadedMaskCodec,
    num_workers: int,
    on_progress: ProgressCallback,
) -> PaliGemma2Model:
    """Train a small model from nothing through all stages; goes on where an earlier call stopped.

    Args:
        stages: stage 0 first.
        tokenizer_json: text of the tokenizer of the `tiny` preset.
        folder: each stage keeps its states and log in a folder of its own below this one.
        codec: gives the mask tokens of what is to be segmented.
        num_workers: processes that draw pictures ahead.
        on_progress: called with the name of the stage and its progress.

    Returns:
        The model after the last stage, float32.
    """
    model = PaliGemma2Model(_with_image_size(PRESETS["tiny"], stages[0].image_size))
    initialize(model, Tokenizer.from_json(tokenizer_json, model.config).location_ids, seed=SEED)
    first = 0
    for stage in stages:
        model = _at_resolution(model, stage.image_size)
        if stage.mixture is None:
            _train_vision(model, stage, folder / stage.name, num_workers, on_progress)
        else:
            tokenizer = Tokenizer.from_json(tokenizer_json, model.config)
            batches = JointBatches(
                "train",
                Processor(tokenizer, model.config),
                stage.mixture,
                first=first,
                encode_masks=partial(encode_masks, codec.codec),
            )
            identity = {"image_size": str(stage.image_size), "mixture": str(stage.mixture)}
            if stage.mixture.segmented:
                identity["mask_codec"] = codec.fingerprint
            progress = partial(on_progress, stage.name)
            _train_jointly(model, stage, batches, folder / stage.name, identity, num_workers, progress)
            first += stage.recipe.steps
    return model


def _train_vision(
    model: PaliGemma2Model, stage: Stage, folder: Path, num_workers: int, on_progress: ProgressCallback
) -> None:
    torch.manual_seed(SEED)  # of the throw-away head
    dense = DenseVisionModel(model.vision_tower, model.config.vision)
    make = DenseBatches(split="train", config=model.config.vision, batch_size=stage.recipe.batch_size)

    def batches(start: int, stop: int) -> Iterator[DenseBatch]:
        return load_batches(make, start, stop, num_workers=num_workers)

    progress = partial(on_progress, stage.name)
    Trainer(dense, stage.recipe, dense.loss, folder=folder, on_progress=progress).fit(batches)


def _train_jointly(
    model: PaliGemma2Model,
    stage: Stage,
    make: JointBatches,
    folder: Path,
    identity: dict[str, str],
    num_workers: int,
    on_progress: Callable[[Progress], None],
) -> None:
    def batches(start: int, stop: int) -> Iterator[tuple[ModelInputs, ...]]:
        return load_batches(make, start, stop, num_workers=num_workers)

    objective = JointObjective(model, stage.recipe, make.processor.tokenizer.location_ids)
    Trainer(model, stage.recipe, objective, folder=folder, identity=identity, on_progress=on_progress).fit(
        batches
    )


def _at_resolution(model: PaliGemma2Model, image_size: int) -> PaliGemma2Model:
    if image_size == model.config.vision.image_size:
        return model
    raised = PaliGemma2Model(_with_image_size(model.config, image_size))
    name = "vision_tower.embeddings.position_embedding.weight"
    weights = model.state_dict()
    weights[name] = raise_resolution(weights[name], raised.config.vision.grid_size)
    raised.load_state_dict(weights)
    return raised


def _with_image_size(config: ModelConfig, image_size: int) -> ModelConfig:
    return dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=image_size))
