"""The shipped model learns something that nobody could have stored in it: a code drawn when the test runs."""

import random
import string
from dataclasses import dataclass

import pytest

from paligemma2.assets import TINY_FOLDER
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.render import draw_scene
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.world import scene_of
from paligemma2.data.training_data import TrainingData
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.metrics.exact import EXACT_MATCH
from paligemma2.metrics.scores import Reference
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Trainer
from paligemma2.types import Example

STEPS, BATCH_SIZE = 200, 16
NUM_TRAIN, NUM_HELD_OUT = 600, 160


@dataclass(frozen=True)
class SecretCode:
    """A letter for every shape and one for every colour, drawn at random."""

    shapes: dict[str, str]
    colors: dict[str, str]

    @classmethod
    def draw(cls, rng: random.Random) -> "SecretCode":
        return cls(
            dict(zip(SHAPES, rng.sample(string.ascii_uppercase, len(SHAPES)), strict=True)),
            dict(zip(COLORS, rng.sample(string.ascii_uppercase, len(COLORS)), strict=True)),
        )

    def example(self, index: int, size: int) -> Example:
        scene = scene_of("validation", index, max_objects=1)
        (item,) = scene.objects
        suffix = self.shapes[item.shape] + self.colors[item.color]
        return Example(images=(draw_scene(scene, size),), prefix="secret code", suffix=suffix)


def accuracy(predictor: PaliGemma2, examples: list[Example], pictures: list[Example]) -> float:
    """Exact answers when the examples are asked about these pictures."""
    texts = []
    for start in range(0, len(examples), BATCH_SIZE):
        shown = [picture.images for picture in pictures[start : start + BATCH_SIZE]]
        texts += predictor.generate(shown, ["secret code"] * len(shown), max_new_tokens=6)
    right = [Reference(answers=(str(example.suffix),)) for example in examples]
    return EXACT_MATCH([text.text for text in texts], right).value


@pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet")
def test_the_shipped_model_learns_a_code_drawn_at_random() -> None:
    rng = random.SystemRandom()
    code, offset = SecretCode.draw(rng), rng.randrange(10**6, 10**9)
    predictor = load("tiny", device="cpu", for_training=True)
    size = predictor.config.vision.image_size
    examples = [code.example(offset + i, size) for i in range(NUM_TRAIN + NUM_HELD_OUT)]
    train, held_out = examples[:NUM_TRAIN], examples[NUM_TRAIN:]
    before = accuracy(predictor, held_out, held_out)
    data = TrainingData(sources=(train,), processor=predictor.processor, batch_size=BATCH_SIZE, seed=0)
    recipe = Recipe(steps=STEPS, batch_size=BATCH_SIZE, learning_rate=6e-4)
    Trainer(predictor.model, recipe, SuffixObjective(predictor.model)).fit(data.batches)
    after = accuracy(predictor, held_out, held_out)
    shuffled = accuracy(predictor, held_out, held_out[1:] + held_out[:1])
    assert before <= 0.1
    assert after >= 0.75
    assert shuffled <= 0.2
