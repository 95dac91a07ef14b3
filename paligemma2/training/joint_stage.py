"""Stages 1 and 2: the whole model learns to caption, answer, detect, segment, read and compare at once."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paligemma2.data.synthetic.samples import Row, Sample
from paligemma2.data.synthetic.seeds import random_for
from paligemma2.data.synthetic.spelling import say_row
from paligemma2.data.synthetic.targets import target_mask
from paligemma2.data.synthetic.world import pair_sample, scene_sample, segment_sample, word_sample
from paligemma2.errors import ConfigError
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.objects import objects_to_suffix
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.training.loss import LocationSpread
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from paligemma2.types import Detection, Example

EncodeMasks: TypeAlias = Callable[[Sequence[npt.NDArray[np.uint8]]], Sequence[Sequence[int]]]
"""Masks, each uint8 [64, 64] in 0..255, to 16 codes each."""

MASK_TOKEN_WEIGHT = 0.25
"""Weight of a mask token in the loss: the 16 of an object together count as much as its four locations."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How many pictures of each kind a batch has, and how many rows each one is asked.

    A scene gives `rows_per_scene` rows (each of caption, questions and detections in turn), a word one row,
    a pair of pictures `rows_per_pair` and a picture to segment `rows_per_segmented`. `says` of the scenes are
    asked to say a text as well.
    """

    scenes: int
    words: int
    pairs: int
    segmented: int = 0
    says: int = 0
    rows_per_scene: int = 3
    rows_per_pair: int = 2
    rows_per_segmented: int = 4

    def __post_init__(self) -> None:
        if self.says > self.scenes:
            raise ConfigError(f"{self.says} texts to say on {self.scenes} scenes", hint="ask one per scene")

    @property
    def rows(self) -> int:
        """Rows of a batch; some pictures cannot be asked as much, and then it has fewer."""
        return (
            self.scenes * self.rows_per_scene
            + self.says
            + self.words
            + self.pairs * self.rows_per_pair
            + self.segmented * self.rows_per_segmented
        )


class JointBatches:
    """Makes the batch of a step, in parts (scenes, words, segmentation, pairs) so that little is padding.

    Args:
        split: of the world.
        processor: of the model to train; gives the picture size.
        mixture: what a batch holds.
        first: offset of the indices, so that no two stages see the same picture.
        encode_masks: of the mask codec; needed where the mixture has pictures to segment.
    """

    def __init__(
        self,
        split: str,
        processor: Processor,
        mixture: Mixture,
        *,
        first: int = 0,
        encode_masks: EncodeMasks | None = None,
    ) -> None:
        self.split = split
        self.processor = processor
        self.mixture = mixture
        self.first = first
        self.encode_masks = encode_masks

    def __call__(self, step: int) -> tuple[ModelInputs, ...]:
        """The batch of this step."""
        rng = random.Random(f"{self.split} {self.first + step}")
        parts = (
            self._scenes(step, rng),
            self._words(step),
            self._segmented(step, rng),
            self._pairs(step, rng),
        )
        encoded = [self.processor.encode(part, train=True) for part in parts if part]
        return tuple(self._weigh_masks(part) for part in encoded)

    @property
    def _size(self) -> int:
        return self.processor.config.vision.image_size

    def _scenes(self, step: int, rng: random.Random) -> list[Example]:
        mixture, examples = self.mixture, []
        for place, i in enumerate(self._indices(step, mixture.scenes)):
            sample = scene_sample(self.split, i, size=self._size)
            examples += _examples(sample, _choose(sample.rows, mixture.rows_per_scene, rng))
            if place < mixture.says:
                examples += _examples(sample, [say_row(random_for("say", self.split, i))])
        return examples

    def _words(self, step: int) -> list[Example]:
        samples = [
            word_sample(self.split, i, size=self._size) for i in self._indices(step, self.mixture.words)
        ]
        return [example for sample in samples for example in _examples(sample, sample.rows)]

    def _segmented(self, step: int, rng: random.Random) -> list[Example]:
        mixture, chosen = self.mixture, []
        for i in self._indices(step, mixture.segmented):
            sample = segment_sample(self.split, i, size=self._size)
            count = min(mixture.rows_per_segmented, len(sample.rows))
            chosen += [(sample, row) for row in rng.sample(sample.rows, count)]
        if not chosen:
            return []
        assert self.encode_masks is not None, "a mixture with segmentation needs the mask codec"
        targets = [target for _, row in chosen for target in row.targets]
        codes = iter(self.encode_masks([target_mask(target) for target in targets]))
        examples = []
        for sample, row in chosen:
            objects = [
                Detection(label=target.label, box=target.box, codes=tuple(next(codes)))
                for target in row.targets
            ]
            suffix = objects_to_suffix(objects)
            examples += _examples(sample, [dataclasses.replace(row, suffix=suffix)])
        return examples

    def _pairs(self, step: int, rng: random.Random) -> list[Example]:
        mixture, examples = self.mixture, []
        for i in self._indices(step, mixture.pairs):
            sample = pair_sample(self.split, i, size=self._size)
            count = min(mixture.rows_per_pair, len(sample.rows))
            examples += _examples(sample, rng.sample(sample.rows, count))
        return examples

    def _weigh_masks(self, part: ModelInputs) -> ModelInputs:
        codes, weights = self.processor.tokenizer.mask_ids, part.loss_weights
        assert weights is not None
        is_code = (part.token_ids >= codes.start) & (part.token_ids < codes.stop)
        return dataclasses.replace(
            part, loss_weights=torch.where(is_code, MASK_TOKEN_WEIGHT * weights, weights)
        )

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
