"""What a model answers to held-out examples, and how right that is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

from paligemma2.data.sources import DataSource, read_source
from paligemma2.errors import DataError
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.metrics.detection import mean_box_iou
from paligemma2.metrics.exact import EXACT_MATCH
from paligemma2.metrics.scores import Reference
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Example

Score: TypeAlias = Callable[[Sequence[str]], float]
"""From the answers, one for each example, to a number from 0 to 1."""

_BATCH = 16


def held_out_examples(path: Path) -> Sequence[Example]:
    """The examples of a data set of the split "valid", or of "test" where there is none.

    Raises:
        DataError: there is no such data set, it has neither split, or rows of it cannot be used.
        MissingExtra: the format needs a library that is not installed.
    """
    examples = read_source(DataSource(path=path), is_trained_on=False).held_out
    if not examples:
        raise DataError(f"{path} has no held-out examples", hint="add some of the split valid or test")
    return examples


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
        right = [Reference(answers=(reference,)) for reference in references]
        return "exact match", lambda answers: EXACT_MATCH(answers, right).value
    return "mean box IoU", lambda answers: fmean(
        mean_box_iou(parse_answer(text).detections, boxes)
        for text, boxes in zip(answers, expected, strict=True)
    )
