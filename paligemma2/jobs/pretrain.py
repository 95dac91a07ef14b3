"""The shipped model from nothing: three stages, then its scores on pictures it never saw."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from paligemma2.checkpoint.mask_codec_files import load_mask_codec, record_mask_codec
from paligemma2.checkpoint.save import save_model
from paligemma2.data.synthetic.world import VOCABULARY
from paligemma2.errors import InputError
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.versions import versions
from paligemma2.jobs.world_scores import WorldScores, score_world
from paligemma2.processing.tiny_tokenizer import build_tiny_tokenizer, companion_files
from paligemma2.training.stages import LATER_WORDS, TINY_STAGES, Stage, train_stages
from paligemma2.training.trainer import ProgressCallback

SCORED_SPLITS = ("test", "test_other_style")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What `run` needs.

    Attributes:
        output: the new model folder.
        runs: where states and logs go; a run that was stopped goes on from there.
        num_workers: processes that draw pictures ahead.
        threads: of PyTorch, or None for its own choice.
        stages: what to train.
        examples: pictures per task and split in the final scores.
    """

    output: Path
    runs: Path
    num_workers: int = 1
    threads: int | None = None
    stages: tuple[Stage, ...] = TINY_STAGES
    examples: int = 400


@dataclass(frozen=True, kw_only=True)
class PretrainReport:
    """The scores by split, and where the model is."""

    scores: dict[str, WorldScores]
    output: Path


def run(
    config: PretrainConfig,
    on_progress: ProgressCallback,
    on_event: Callable[[str], None] = lambda message: None,
) -> PretrainReport:
    """Train, save as an ordinary Hugging Face folder in bfloat16, load that again and score it.

    Raises:
        InputError: the output folder exists.
        MissingExtra: the typefaces of the world are not installed.
        WorkError: the loss is not a number, or the disk is full.
        Interrupted: a stop request came; the state is saved.
    """
    if config.output.exists():
        raise InputError(f"{config.output} exists", hint="choose another output folder, or remove it")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    codec = load_mask_codec()
    tokenizer_json = build_tiny_tokenizer((*VOCABULARY, *LATER_WORDS))
    model = train_stages(
        config.stages,
        tokenizer_json,
        config.runs,
        codec=codec,
        num_workers=config.num_workers,
        on_progress=on_progress,
    )
    files = config.runs / "tokenizer"
    files.mkdir(parents=True, exist_ok=True)
    for name, text in {"tokenizer.json": tokenizer_json, **companion_files()}.items():
        (files / name).write_text(text, encoding="utf-8")
    record_mask_codec(files, codec.record)
    save_model(config.output, model, model.config, dtype=torch.bfloat16, files_from=files)
    on_event(f"saved {config.output}; measuring it on held-out pictures")
    predictor = load(config.output, device="cpu", dtype="float32")
    scores = _score(predictor, config.examples)
    _write_record(config, scores)
    return PretrainReport(scores=scores, output=config.output)


def _score(predictor: PaliGemma2, examples: int) -> dict[str, WorldScores]:
    return {split: score_world(predictor, split, examples=examples) for split in SCORED_SPLITS}


def _write_record(config: PretrainConfig, scores: dict[str, WorldScores]) -> None:
    record = {
        "command": "paligemma2 pretrain tiny",
        "versions": versions(),
        "stages": [asdict(stage) for stage in config.stages],
        "scores": {split: asdict(values) for split, values in scores.items()},
    }
    path = config.output / "pretraining.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
