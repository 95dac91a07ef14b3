"""Stages 1 and 2: the whole model learns to caption, answer, detect, read and compare, all at once."""

import random
from dataclasses import dataclass

from torch import Tensor

from paligemma2.data.synthetic.samples import Row, Sample
from paligemma2.data.synthetic.world import pair_sample, scene_sample, word_sample
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.training.loss import LocationSpread
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from paligemma2.types import Example


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How many pictures of each kind a batch has, and how many rows each one is asked.

    A scene gives `rows_per_scene` rows (each of caption, questions and detections in turn), a word one row
    and a pair of pictures `rows_per_pair`.
    """

    scenes: int
    words: int
    pairs: int
    rows_per_scene: int = 3
    rows_per_pair: int = 2
    max_objects: int = 3

    @property
    def rows(self) -> int:
        """Rows of a batch."""
        return self.scenes * self.rows_per_scene + self.words + self.pairs * self.rows_per_pair


class JointBatches:
    """Makes the batch of a step: one part with single pictures and one with pairs, so that neither is padded.

    Args:
        split: of the world.
        processor: of the model to train; gives the picture size.
        mixture: what a batch holds.
        first: offset of the indices, so that no two stages see the same picture.
    """

    def __init__(self, split: str, processor: Processor, mixture: Mixture, *, first: int = 0) -> None:
        self.split = split
        self.processor = processor
        self.mixture = mixture
        self.first = first

    def __call__(self, step: int) -> tuple[ModelInputs, ...]:
        """The batch of this step."""
        mixture, size = self.mixture, self.processor.config.vision.image_size
        rng = random.Random(f"{self.split} {self.first + step}")
        single: list[Example] = []
        double: list[Example] = []
        for i in self._indices(step, mixture.scenes):
            sample = scene_sample(self.split, i, size=size, max_objects=mixture.max_objects)
            single += _examples(sample, _choose(sample.rows, mixture.rows_per_scene, rng))
        for i in self._indices(step, mixture.words):
            sample = word_sample(self.split, i, size=size)
            single += _examples(sample, sample.rows)
        for i in self._indices(step, mixture.pairs):
            sample = pair_sample(self.split, i, size=size, max_objects=mixture.max_objects)
            double += _examples(sample, rng.sample(sample.rows, min(mixture.rows_per_pair, len(sample.rows))))
        return tuple(self.processor.encode(part, train=True) for part in (single, double) if part)

    def _indices(self, step: int, count: int) -> range:
        start = (self.first + step) * count
        return range(start, start + count)


def _choose(rows: tuple[Row, ...], count: int, rng: random.Random) -> list[Row]:
    """One detection, one question, then whatever comes; each task has a fair share over time."""
    by_task: dict[str, list[Row]] = {}
    for row in rng.sample(rows, len(rows)):
        by_task.setdefault(row.task, []).append(row)
    chosen = [same_task.pop() for same_task in by_task.values()]
    rest = [row for same_task in by_task.values() for row in same_task]
    rng.shuffle(chosen)
    return (chosen + rest)[:count]


def _examples(sample: Sample, rows: tuple[Row, ...] | list[Row]) -> list[Example]:
    return [Example(images=sample.images, prefix=row.prefix, suffix=row.suffix) for row in rows]


class JointObjective:
    """The suffix loss over the parts of a batch, each example with equal weight.

    Args:
        model: to train.
        recipe: gives averages, smoothing and the softness of locations.
        location_ids: ids of `<loc0000>`….
    """

    def __init__(self, model: PaliGemma2Model, recipe: Recipe, location_ids: range) -> None:
        spread = None
        if recipe.location_sigma is not None:
            spread = LocationSpread(
                first_id=location_ids.start, num_locations=len(location_ids), sigma=recipe.location_sigma
            )
        self._objective = SuffixObjective(
            model,
            average=recipe.average,
            label_smoothing=recipe.label_smoothing,
            location_spread=spread,
        )

    def __call__(self, parts: tuple[ModelInputs, ...]) -> Tensor:
        """The loss of a batch, a scalar with gradient."""
        rows = [len(part.ids) for part in parts]
        losses = [self._objective(part) * count for part, count in zip(parts, rows, strict=True)]
        return sum(losses[1:], losses[0]) / sum(rows)
