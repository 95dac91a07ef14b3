"""What the small model is taught in the miniature run, and how long."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The short transfer of one task.

    Attributes:
        steps: updates.
        batch_size: examples per update.
        learning_rate: peak.
        training_examples: pictures, pairs or videos of each split that is only trained on.
        examples: of each split that is scored.
        cost: of an example, beside one with a single picture.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 3e-4
    training_examples: int = 160
    examples: int = 40
    cost: float = 1.0

    @property
    def work(self) -> float:
        """How long it takes beside others, about."""
        return self.steps * self.batch_size * self.cost


LESSONS: Mapping[str, Lesson] = {
    "ai2d": Lesson(steps=40, training_examples=200),
    "cococap": Lesson(steps=12, learning_rate=1e-4, training_examples=80),
    "docvqa": Lesson(steps=60, training_examples=400),
    "gqa": Lesson(steps=12, learning_rate=1e-4, training_examples=80),
    "msvd_qa": Lesson(steps=6, batch_size=4, learning_rate=5e-5, training_examples=24, examples=16, cost=8),
    "nlvr2": Lesson(steps=40, training_examples=200, cost=2),
    "okvqa": Lesson(steps=12, learning_rate=1e-4, training_examples=80),
    "refcoco": Lesson(steps=60, training_examples=300, examples=12),
    "rsvqa_lr": Lesson(steps=12, learning_rate=3e-5, training_examples=80, examples=60),
    "tallyqa": Lesson(steps=12, learning_rate=3e-5, training_examples=80, examples=60),
}
"""The ten tasks that the small model learns, each with its controls."""
_GLANCE = Lesson(steps=2, batch_size=2, training_examples=4, examples=3)
"""All other tasks: the path is walked, nothing is learned."""


def lesson_of(name: str) -> Lesson:
    """How a task is taught."""
    return LESSONS.get(name, _GLANCE)
