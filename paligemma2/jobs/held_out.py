"""What a model answers to held-out examples, and how right that is."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TypeAlias

from paligemma2.inference.predictor import PaliGemma2
from paligemma2.metrics.answers import exact_match
from paligemma2.metrics.detection import mean_box_iou
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Example

Score: TypeAlias = Callable[[Sequence[str]], float]
"""From the answers, one for each example, to a number from 0 to 1."""

_BATCH = 16


def answers(predictor: PaliGemma2, examples: Sequence[Example], max_new_tokens: int) -> list[str]:
    """The answer to each example, greedily decoded.

    Raises:
        InputError: a prompt does not fit.
        ImageError: a picture cannot be read.
    """
    texts: list[str] = []
    for start in range(0, len(examples), _BATCH):
        batch = examples[start : start + _BATCH]
        written = predictor.generate(
            [example.images for example in batch], [example.prefix for example in batch], max_new_tokens
        )
        texts += [answer.text for answer in written]
    return texts


def metric_of(examples: Sequence[Example]) -> tuple[str, Score]:
    """The metric of some examples by its name and as a function.

    It is the mean IoU of boxes where every right answer has boxes, else the share of answers that are right
    to the letter.
    """
    references = [example.suffix or "" for example in examples]
    expected = [parse_answer(reference).detections for reference in references]
    if not all(expected):
        return "exact match", lambda answers: exact_match(answers, references).value
    return "mean box IoU", lambda answers: fmean(
        mean_box_iou(parse_answer(text).detections, boxes)
        for text, boxes in zip(answers, expected, strict=True)
    )
