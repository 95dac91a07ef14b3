import dataclasses
import json
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.load import load_model
from paligemma2.data.synthetic.world import VOCABULARY
from paligemma2.errors import InputError
from paligemma2.jobs import pretrain
from paligemma2.model.config import PRESETS
from paligemma2.processing.tiny_tokenizer import tiny_vocabulary
from paligemma2.training.joint_stage import Mixture
from paligemma2.training.stages import LATER_WORDS, TINY_STAGES, Stage


def short(stage: Stage) -> Stage:
    mixture = None if stage.mixture is None else Mixture(scenes=1, words=1, pairs=1, rows_per_scene=2)
    return dataclasses.replace(
        stage, mixture=mixture, recipe=dataclasses.replace(stage.recipe, steps=2, batch_size=2)
    )


def test_a_short_run_ends_in_an_ordinary_folder_with_its_record(tmp_path: Path) -> None:
    config = pretrain.PretrainConfig(
        output=tmp_path / "model",
        runs=tmp_path / "runs",
        num_workers=0,
        stages=tuple(short(stage) for stage in TINY_STAGES),
        examples=2,
    )
    seen: list[str] = []
    report = pretrain.run(config, lambda stage, progress: seen.append(stage))
    assert seen == [stage.name for stage in TINY_STAGES]
    loaded = load_model(report.output)
    assert loaded.config == PRESETS["tiny"]
    assert loaded.model.dtype == torch.bfloat16
    record = json.loads((report.output / "pretraining.json").read_text(encoding="utf-8"))
    assert set(record["scores"]) == set(pretrain.SCORED_SPLITS)
    with pytest.raises(InputError, match="exists"):
        pretrain.run(config, lambda stage, progress: None)


def test_the_tiny_preset_has_a_row_for_every_token() -> None:
    pieces = tiny_vocabulary((*VOCABULARY, *LATER_WORDS))
    assert len(pieces) == PRESETS["tiny"].text.vocab_size
    assert pieces[-1] == "<image>"


def test_the_joint_stages_rise_in_resolution_up_to_the_presets() -> None:
    sizes = [stage.image_size for stage in TINY_STAGES if stage.mixture is not None]
    assert sizes == sorted(sizes)
    assert sizes[-1] == PRESETS["tiny"].vision.image_size > sizes[0]
