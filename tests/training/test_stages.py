import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.data.synthetic.world import VOCABULARY
from paligemma2.model.config import PRESETS
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.siglip import raise_resolution
from paligemma2.processing.tiny_tokenizer import tiny_vocabulary
from paligemma2.training.checkpointing import load_newest_state
from paligemma2.training.joint_stage import Mixture
from paligemma2.training.recipe import OptimizerName, Recipe
from paligemma2.training.stages import LATER_WORDS, TINY_STAGES, Stage, train_stages
from paligemma2.training.trainer import Progress
from tests.training.small_model import SMALL, TINY, TOKENIZER_JSON, small_processor

POSITIONS = "vision_tower.embeddings.position_embedding.weight"
MIXTURE = Mixture(scenes=1, words=1, pairs=1, rows_per_scene=2, rows_per_pair=1)


class Stopped(Exception):
    """Stands for a crash."""


def recipe(steps: int, optimizer: OptimizerName = "muon", average_decay: float | None = None) -> Recipe:
    return Recipe(
        steps=steps,
        batch_size=4,
        optimizer=optimizer,
        learning_rate=1e-3,
        checkpoint_every=2,
        log_every=1,
        location_sigma=8.0,
        average_decay=average_decay,
    )


STAGES = (
    Stage(name="see", image_size=28, recipe=recipe(3)),
    Stage(name="join", image_size=28, recipe=recipe(3), mixture=MIXTURE),
    Stage(
        name="rise",
        image_size=42,
        recipe=recipe(4, average_decay=0.9),
        mixture=dataclasses.replace(MIXTURE, segmented=1),
    ),
)


def train(
    folder: Path, stages: tuple[Stage, ...] = STAGES, stop_at: tuple[str, int] | None = None
) -> PaliGemma2Model:
    def on_progress(stage: str, progress: Progress) -> None:
        if (stage, progress.step) == stop_at:
            raise Stopped

    return train_stages(
        stages, TOKENIZER_JSON, folder, codec=load_mask_codec(), num_workers=0, on_progress=on_progress
    )


@pytest.fixture(autouse=True, scope="module")
def _a_smaller_model() -> Iterator[None]:
    """The same vocabulary and a hundredth of the weights: states are written in no time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "tiny", SMALL)
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[PaliGemma2Model, Path]:
    folder = tmp_path_factory.mktemp("straight")
    return train(folder), folder


def test_all_stages_run_and_leave_a_model_of_the_last_resolution(
    straight: tuple[PaliGemma2Model, Path],
) -> None:
    model, folder = straight
    assert model.config.vision.image_size == 42
    assert model.state_dict()[POSITIONS].shape[0] == 9
    assert not model.training
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())
    assert sorted(path.name for path in folder.iterdir()) == ["join", "rise", "see"]
    for stage in STAGES:
        lines = (folder / stage.name / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, stage.recipe.steps + 1))


@pytest.mark.parametrize("stop_at", [("see", 3), ("join", 3), ("rise", 3)], ids=str)
def test_a_run_stopped_in_any_stage_goes_on_to_the_same_weights(
    straight: tuple[PaliGemma2Model, Path], tmp_path: Path, stop_at: tuple[str, int]
) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, stop_at=stop_at)
    resumed = train(tmp_path)
    for (name, a), (_, b) in zip(resumed.named_parameters(), straight[0].named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_finished_run_only_loads_its_states(straight: tuple[PaliGemma2Model, Path]) -> None:
    model, folder = straight
    again = train(folder, stop_at=("rise", 4))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_each_stage_starts_from_the_weights_of_the_one_before(
    straight: tuple[PaliGemma2Model, Path], tmp_path: Path
) -> None:
    """A rate too small to move a weight shows what the stage began with."""
    _, folder = straight
    still = Recipe(steps=1, batch_size=4, learning_rate=1e-30)
    stages = (*STAGES[:2], Stage(name="still", image_size=42, recipe=still, mixture=MIXTURE))
    after = train(tmp_path, stages).state_dict()
    saved = load_newest_state(folder / "join")
    assert saved is not None
    for name, weight in after.items():
        before = saved.tensors[f"module.{name}"]
        torch.testing.assert_close(weight, raise_resolution(before, 3) if name == POSITIONS else before)


def test_stage_zero_trains_the_image_encoder_alone(tmp_path: Path) -> None:
    seen = train(tmp_path / "a", STAGES[:1]).state_dict()
    longer = (Stage(name="see", image_size=28, recipe=recipe(4)),)
    more = train(tmp_path / "b", longer).state_dict()
    for name, weight in seen.items():
        assert torch.equal(weight, more[name]) == (not name.startswith("vision_tower")), name


def test_the_stages_of_the_shipped_model_follow_each_other() -> None:
    assert [stage.mixture is None for stage in TINY_STAGES] == [True, False, False]
    sizes = [stage.image_size for stage in TINY_STAGES if stage.mixture is not None]
    assert sizes == sorted(sizes)
    assert sizes[-1] == TINY.vision.image_size
    assert len({stage.name for stage in TINY_STAGES}) == len(TINY_STAGES)
    assert all(s.recipe.batch_size == s.mixture.rows for s in TINY_STAGES if s.mixture is not None)


def test_no_stage_of_the_shipped_model_shows_a_picture_that_another_one_showed() -> None:
    for kind in ("scenes", "words", "pairs", "segmented"):
        seen = steps = 0
        for stage in TINY_STAGES:
            if stage.mixture is not None:
                count = getattr(stage.mixture, kind)
                assert steps * count >= seen or not count, (kind, stage.name)
                steps += stage.recipe.steps
                seen = max(seen, steps * count)


def test_the_vocabulary_of_the_shipped_model_is_that_of_its_tokenizer() -> None:
    pieces = tiny_vocabulary((*VOCABULARY, *LATER_WORDS))
    assert len(pieces) == TINY.text.vocab_size
    assert pieces[TINY.image_token_id] == "<image>"
    assert small_processor().tokenizer.image_id == TINY.image_token_id


def test_the_words_for_later_tasks_are_new_ones() -> None:
    assert len(set(LATER_WORDS)) == len(LATER_WORDS)
    assert not set(LATER_WORDS) & set(VOCABULARY)
