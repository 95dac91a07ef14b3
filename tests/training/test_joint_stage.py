import dataclasses
import pickle
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from paligemma2.data.synthetic.samples import Row
from paligemma2.data.synthetic.world import scene_sample
from paligemma2.errors import ConfigError
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.processor import ModelInputs
from paligemma2.training import joint_stage
from paligemma2.training.joint_stage import JointBatches, JointObjective, Mixture
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from tests.training.small_model import TOKENIZER_JSON, small_model, small_processor

MIXTURE = Mixture(scenes=2, words=3, pairs=2, says=1, rows_per_scene=3, rows_per_pair=1)
PROCESSOR = small_processor()


def batches(mixture: Mixture = MIXTURE, *, split: str = "train", first: int = 0) -> JointBatches:
    return JointBatches(split, PROCESSOR, mixture, first=first, encode_masks=count_pixels)


def count_pixels(masks: Sequence[npt.NDArray[np.uint8]]) -> list[list[int]]:
    """Stands for a codec: sixteen codes that depend on the mask."""
    return [[int((mask > 127).sum()) // 32] * 16 for mask in masks]


def suffixes(part: ModelInputs) -> list[str]:
    assert part.loss_weights is not None
    return [
        PROCESSOR.tokenizer.decode(ids[weights > 0].tolist()[:-1])
        for ids, weights in zip(part.token_ids, part.loss_weights, strict=True)
    ]


def prompts(part: ModelInputs) -> list[str]:
    text = part.layout.is_prefix & (part.token_ids != PROCESSOR.tokenizer.image_id)
    return [
        PROCESSOR.tokenizer.decode(ids[is_text].tolist()).strip()
        for ids, is_text in zip(part.token_ids, text, strict=True)
    ]


def equal(a: tuple[ModelInputs, ...], b: tuple[ModelInputs, ...]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.token_ids, y.token_ids)
        and torch.equal(x.pixel_values, y.pixel_values)
        and torch.equal(x.image_index, y.image_index)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    "mixture",
    [
        MIXTURE,
        Mixture(scenes=3, words=0, pairs=0),
        Mixture(scenes=0, words=2, pairs=0),
        Mixture(scenes=0, words=0, pairs=2, rows_per_pair=1),
        Mixture(scenes=1, words=1, pairs=1, rows_per_scene=4, rows_per_pair=1),
    ],
)
def test_a_batch_has_as_many_rows_as_the_mixture_says(mixture: Mixture) -> None:
    for step in range(3):
        parts = batches(mixture)(step)
        assert sum(len(part.ids) for part in parts) == mixture.rows


def test_each_picture_is_there_once_in_a_part_and_pairs_stand_apart() -> None:
    scenes, words, pairs = batches()(0)
    assert [len(part.pixel_values) for part in (scenes, words, pairs)] == [2, 3, 4]
    tokens = PROCESSOR.config.num_image_tokens
    for part, images in ((scenes, 1), (words, 1), (pairs, 2)):
        assert ((part.token_ids == PROCESSOR.tokenizer.image_id).sum(1) == images * tokens).all()
    assert prompts(words) == ["ocr"] * MIXTURE.words


def test_some_scenes_are_asked_to_say_a_text() -> None:
    scenes = batches()(0)[0]
    said = [(p, s) for p, s in zip(prompts(scenes), suffixes(scenes), strict=True) if p.startswith("say ")]
    assert len(said) == MIXTURE.says
    assert all(prompt == f"say {suffix}" for prompt, suffix in said)
    with pytest.raises(ConfigError, match="3 texts to say on 2 scenes"):
        Mixture(scenes=2, words=0, pairs=0, says=3)


def test_segment_rows_have_the_codes_of_their_masks_at_a_quarter_of_the_weight() -> None:
    make = batches(Mixture(scenes=0, words=0, pairs=0, segmented=4, rows_per_segmented=2))
    (part,) = make(0)
    assert part.loss_weights is not None
    assert len(part.pixel_values) == 4
    codes = PROCESSOR.tokenizer.mask_ids
    is_code = (part.token_ids >= codes.start) & (part.token_ids < codes.stop)
    targets = 0
    for prompt, suffix in zip(prompts(part), suffixes(part), strict=True):
        assert prompt.startswith("segment ")
        parsed = parse_answer(suffix)
        assert not parsed.problems
        assert {found.label for found in parsed.detections} == {prompt.removeprefix("segment ")}
        assert all(len(set(found.codes)) == 1 and found.codes[0] > 10 for found in parsed.detections)
        targets += len(parsed.detections)
    assert is_code.sum() == 16 * targets
    assert (part.loss_weights[is_code] == 0.25).all()
    assert set(part.loss_weights[~is_code].tolist()) == {0.0, 1.0}


def test_a_batch_is_a_pure_function_of_the_step() -> None:
    make = batches()
    forwards = [make(step) for step in range(3)]
    backwards = [make(step) for step in (2, 1, 0)][::-1]
    assert all(equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    copy: JointBatches = pickle.loads(pickle.dumps(make))
    assert equal(copy(1), forwards[1])
    assert not equal(forwards[0], forwards[1])


def test_a_later_stage_goes_on_where_the_one_before_stopped() -> None:
    assert equal(batches(first=7)(0), batches()(7))


def test_no_picture_comes_twice() -> None:
    make = batches()
    seen = Counter(
        image.numpy().tobytes() for step in range(12) for part in make(step) for image in part.pixel_values
    )
    assert seen.most_common(1)[0][1] == 1


def test_training_never_shows_a_held_out_word_and_validation_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from paligemma2.data.synthetic.words import is_held_out

    words_only = Mixture(scenes=0, words=40, pairs=0)
    for split, wanted in (("train", False), ("validation", True)):
        words = [word for step in range(5) for word in suffixes(batches(words_only, split=split)(step)[0])]
        assert len(set(words)) > 100
        assert all(word.isupper() and is_held_out(word) is wanted for word in words)


def test_each_scene_is_asked_different_tasks_in_turn() -> None:
    make = batches(Mixture(scenes=20, words=0, pairs=0, rows_per_scene=3))
    (part,) = make(0)
    kinds = [prompt.split()[0] for prompt in prompts(part)]
    for scene in range(20):
        assert set(kinds[3 * scene : 3 * scene + 3]) == {"caption", "answer", "detect"}


def test_with_one_row_per_scene_every_task_has_its_share() -> None:
    make = batches(Mixture(scenes=60, words=0, pairs=0, rows_per_scene=1))
    counts = Counter(prompt.split()[0] for prompt in prompts(make(0)[0]))
    assert counts.keys() == {"caption", "answer", "detect"}
    assert min(counts.values()) >= 10


def test_rows_beyond_the_tasks_are_further_questions() -> None:
    rows = scene_sample("train", 0, size=28).rows
    generator = random.Random(0)
    for count in range(1, len(rows) + 1):
        chosen = joint_stage._choose(rows, count, generator)
        assert len(chosen) == count
        assert len({(row.prefix, row.suffix) for row in chosen}) == count
        assert all(isinstance(row, Row) and row in rows for row in chosen)


def test_the_objective_weighs_every_example_the_same() -> None:
    model, parts = small_model(), batches()(0)
    recipe = Recipe(steps=1)
    loss = JointObjective(model, recipe, PROCESSOR.tokenizer.location_ids)(parts)
    plain = SuffixObjective(model)
    rows = [len(part.ids) for part in parts]
    expected = sum(plain(part).item() * count for part, count in zip(parts, rows, strict=True)) / sum(rows)
    assert rows == [7, 3, 2]
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert abs(loss.item() - sum(plain(part).item() for part in parts) / 2) > 1e-4


@pytest.mark.parametrize(
    "change", [{"average": "token"}, {"label_smoothing": 0.2}, {"location_sigma": 8.0}], ids=str
)
def test_the_objective_follows_the_recipe(change: dict[str, object]) -> None:
    model, parts = small_model(), batches()(0)
    recipe, locations = Recipe(steps=1), PROCESSOR.tokenizer.location_ids
    plain = JointObjective(model, recipe, locations)(parts).item()
    other = dataclasses.replace(recipe, **change)  # type: ignore[arg-type]
    assert JointObjective(model, other, locations)(parts).item() != plain


def test_the_tokenizer_reads_every_word_of_a_batch_whole() -> None:
    """No row of the world is spelled letter by letter, except the words to read."""
    single, double = batches(Mixture(scenes=10, words=0, pairs=10))(3)
    for part in (single, double):
        lengths = (part.layout.is_valid & (part.token_ids != PROCESSOR.tokenizer.image_id)).sum(1)
        for text, suffix, length in zip(prompts(part), suffixes(part), lengths.tolist(), strict=True):
            pieces = len(f"{text} {suffix}".replace("?", " ?").replace(",", " ,").replace(">", "> ").split())
            assert length <= pieces + suffix.count("<loc") + 3
    assert TOKENIZER_JSON.count("<image>") >= 1
