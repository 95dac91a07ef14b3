import json
from dataclasses import asdict

import pytest

from paligemma2.assets import TINY_FOLDER
from paligemma2.inference.loading import load
from paligemma2.jobs.world_scores import WorldScores, score_world
from paligemma2.training.recipe import Recipe
from paligemma2.training.stages import TINY_STAGES

# 120 pictures per task: two standard errors of a share are 0.055 at 0.9 and 0.08 at 0.73, as of words.
NUM_EXAMPLES, TOLERANCE, WORDS_TOLERANCE = 120, 0.06, 0.08


DEFAULTS = json.loads(json.dumps(asdict(Recipe(steps=1))))


@pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet")
@pytest.mark.parametrize("split", ["test", "test_other_style"])
def test_the_published_scores_of_the_shipped_model_are_true(split: str) -> None:
    record = json.loads((TINY_FOLDER / "pretraining.json").read_text(encoding="utf-8"))
    published = WorldScores(**record["scores"][split])
    measured = score_world(load("tiny", device="cpu"), split, examples=NUM_EXAMPLES)
    for name in ("caption", "vqa", "detection", "segmentation", "words", "letters", "pairs"):
        tolerance = WORDS_TOLERANCE if name == "words" else TOLERANCE
        assert getattr(measured, name) == pytest.approx(getattr(published, name), abs=tolerance), name


@pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet")
def test_the_shipped_model_was_trained_by_the_stages_of_this_version() -> None:
    record = json.loads((TINY_FOLDER / "pretraining.json").read_text(encoding="utf-8"))
    for stage, written in zip(TINY_STAGES, record["stages"], strict=True):
        assert (stage.name, stage.image_size) == (written["name"], written["image_size"])
        since_then = {name: default for name, default in DEFAULTS.items() if name not in written["recipe"]}
        assert json.loads(json.dumps(asdict(stage.recipe))) == written["recipe"] | since_then
        assert (stage.mixture and asdict(stage.mixture)) == written["mixture"]
