import json
from pathlib import Path

import pytest

from paligemma2.assets import MASK_CODEC_FOLDER
from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.data.synthetic.mask_pictures import FAMILIES
from paligemma2.errors import InputError
from paligemma2.jobs.pretrain_mask_codec import (
    CODEC_NAME,
    MaskCodecPretrainConfig,
    run,
    score_mask_codec,
)
from paligemma2.training.mask_codec_stage import MASK_CODEC_RECIPE, STAGE_NAME
from paligemma2.training.recipe import Recipe


def test_a_short_run_ends_in_a_codec_with_its_record(tmp_path: Path) -> None:
    config = MaskCodecPretrainConfig(
        output=tmp_path / "codec",
        runs=tmp_path / "runs",
        recipe=Recipe(steps=2, batch_size=2, log_every=1),
        examples=3,
    )
    seen: list[str] = []
    events: list[str] = []
    report = run(config, lambda name, progress: seen.append(name), events.append)
    assert seen == [STAGE_NAME] * 2
    assert len(events) == 1
    loaded = load_mask_codec(report.output)
    assert loaded.name == CODEC_NAME
    record = json.loads((report.output / "pretraining.json").read_text(encoding="utf-8"))
    assert record["fingerprint"] == loaded.fingerprint
    assert record["recipe"]["steps"] == 2
    assert set(record["scores"]) == set(report.scores) == set(FAMILIES)
    assert {scores["examples"] for scores in record["scores"].values()} <= {2, 3}
    with pytest.raises(InputError, match="exists"):
        run(config, lambda name, progress: None)


def test_the_codec_of_the_package_restores_figures_it_never_saw() -> None:
    scores = score_mask_codec(load_mask_codec().codec, examples=12)
    assert scores["shape"].iou > 0.93
    assert min(values.iou for values in scores.values()) > 0.84
    for values in scores.values():
        assert values.iou_fifth_swapped > values.iou - 0.05
        assert values.equal_codes_turned < values.near_codes_turned <= 1


def test_the_record_of_the_package_is_of_the_recipe_in_the_source() -> None:
    record = json.loads((MASK_CODEC_FOLDER / "pretraining.json").read_text(encoding="utf-8"))
    assert record["recipe"]["steps"] == MASK_CODEC_RECIPE.steps
    assert record["recipe"]["batch_size"] == MASK_CODEC_RECIPE.batch_size
    assert record["scores"]["shape"]["iou"] >= 0.95
    assert min(record["scores"][family]["iou"] for family in ("blob", "polygon")) >= 0.9
