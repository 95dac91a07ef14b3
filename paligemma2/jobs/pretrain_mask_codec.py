"""The shipped mask codec from nothing, then how well it restores figures it never saw."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from paligemma2.checkpoint.atomic import new_folder
from paligemma2.checkpoint.mask_codec_files import (
    CODEC_FILE,
    LoadedMaskCodec,
    load_mask_codec,
    save_mask_codec,
)
from paligemma2.data.synthetic.mask_pictures import FAMILIES, Drawing, draw_figure, held_out_figure
from paligemma2.errors import InputError
from paligemma2.jobs.versions import versions
from paligemma2.metrics.masks import mask_iou
from paligemma2.model.mask_codec import MaskCodec
from paligemma2.training.mask_codec_stage import (
    MASK_CODEC_RECIPE,
    STAGE_NAME,
    nearest_neighbours,
    train_mask_codec,
)
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import ProgressCallback

CODEC_NAME = "paligemma2-shapes"

_TURN = math.radians(3)
_NEIGHBOURS = 4


@dataclass(frozen=True, kw_only=True)
class MaskCodecPretrainConfig:
    """What `run` needs.

    Attributes:
        output: the new folder.
        runs: where states and the log go; a run that was stopped goes on from there.
        num_workers: processes that draw masks ahead.
        threads: of PyTorch, or None for its own choice.
        recipe: steps, batch size and rates.
        examples: figures per family in the final scores.
    """

    output: Path
    runs: Path
    num_workers: int = 0
    threads: int | None = None
    recipe: Recipe = MASK_CODEC_RECIPE
    examples: int = 400


@dataclass(frozen=True, kw_only=True)
class MaskCodecScores:
    """How well masks of one family survive.

    Attributes:
        iou: mean intersection over union of a mask and what its codes restore.
        iou_tenth_swapped: the same with a tenth of the codes replaced by one of their four nearest.
        iou_fifth_swapped: the same with a fifth of them.
        equal_codes_turned: share of codes that stay when the figure is turned by 3 degrees.
        near_codes_turned: share of codes that stay or become one of their four nearest.
        examples: figures.
    """

    iou: float
    iou_tenth_swapped: float
    iou_fifth_swapped: float
    equal_codes_turned: float
    near_codes_turned: float
    examples: int


@dataclass(frozen=True, kw_only=True)
class MaskCodecPretrainReport:
    """The scores by family of figures, and where the codec is."""

    scores: Mapping[str, MaskCodecScores]
    output: Path


def run(
    config: MaskCodecPretrainConfig,
    on_progress: ProgressCallback,
    on_event: Callable[[str], None] = lambda message: None,
) -> MaskCodecPretrainReport:
    """Train, save in float16, load that again and score it.

    Raises:
        InputError: the output folder exists.
        WorkError: the loss is not a number, or the disk is full.
        Interrupted: a stop request came; the state is saved.
    """
    if config.output.exists():
        raise InputError(f"{config.output} exists", hint="choose another output folder, or remove it")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    codec = train_mask_codec(
        config.recipe, config.runs / STAGE_NAME, num_workers=config.num_workers, on_progress=on_progress
    )
    with new_folder(config.output) as partial:
        save_mask_codec(partial / CODEC_FILE, codec, CODEC_NAME, dtype=torch.float16)
        loaded = load_mask_codec(partial)
        on_event("measuring it on held-out figures")
        scores = score_mask_codec(loaded.codec, examples=config.examples)
        _write_record(partial / "pretraining.json", config, loaded, scores)
    return MaskCodecPretrainReport(scores=scores, output=config.output)


@torch.inference_mode()
def score_mask_codec(codec: MaskCodec, *, examples: int, split: str = "test") -> dict[str, MaskCodecScores]:
    """The scores of every family of figures.

    Args:
        codec: any, float32 on the CPU.
        examples: figures per family.
        split: of the world.

    Raises:
        InputError: there is no such split.
    """
    return {family: _score(codec, family, split, examples) for family in FAMILIES}


def _score(codec: MaskCodec, family: str, split: str, examples: int) -> MaskCodecScores:
    figures = [held_out_figure(family, split, index) for index in range(examples)]
    straight, turned = (
        [draw_figure(figure, drawing) for figure in figures] for drawing in (Drawing(), Drawing(turn=_TURN))
    )
    pairs = [
        pair for pair in zip(straight, turned, strict=True) if pair[0] is not None and pair[1] is not None
    ]
    masks, turned_masks = (
        torch.from_numpy(np.stack(list(side))).float() / 255 for side in zip(*pairs, strict=True)
    )
    codes = codec.encode(masks)
    generator = torch.Generator().manual_seed(len(figures))
    turned_codes = codec.encode(turned_masks)
    is_equal = codes == turned_codes
    is_near = (nearest_neighbours(codec.codebook.vectors, _NEIGHBOURS)[codes] == turned_codes[..., None]).any(
        -1
    )
    tenth, fifth = (_with_neighbours(codec, codes, share, generator) for share in (0.1, 0.2))
    return MaskCodecScores(
        iou=_mean_iou(codec, codes, masks),
        iou_tenth_swapped=_mean_iou(codec, tenth, masks),
        iou_fifth_swapped=_mean_iou(codec, fifth, masks),
        equal_codes_turned=is_equal.float().mean().item(),
        near_codes_turned=(is_equal | is_near).float().mean().item(),
        examples=len(pairs),
    )


def _mean_iou(codec: MaskCodec, codes: Tensor, masks: Tensor) -> float:
    restored = codec.decode(codes).numpy() > 0
    return fmean(mask_iou(mine, theirs) for mine, theirs in zip(restored, masks.numpy() >= 0.5, strict=True))


def _with_neighbours(codec: MaskCodec, codes: Tensor, share: float, generator: torch.Generator) -> Tensor:
    neighbours = nearest_neighbours(codec.codebook.vectors, _NEIGHBOURS)
    choice = torch.randint(_NEIGHBOURS, codes.shape, generator=generator)
    return torch.where(torch.rand(codes.shape, generator=generator) < share, neighbours[codes, choice], codes)


def _write_record(
    path: Path,
    config: MaskCodecPretrainConfig,
    loaded: LoadedMaskCodec,
    scores: Mapping[str, MaskCodecScores],
) -> None:
    record = {
        "command": "paligemma2 pretrain mask-codec",
        "versions": versions(),
        "name": loaded.name,
        "fingerprint": loaded.fingerprint,
        "config": asdict(loaded.codec.config),
        "recipe": asdict(config.recipe),
        "scores": {family: asdict(values) for family, values in scores.items()},
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
