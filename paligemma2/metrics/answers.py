"""Scores of short answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from paligemma2.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One score per example, from 0 (wrong) to 1 (right), in the order of the examples."""

    per_example: tuple[float, ...]

    @property
    def value(self) -> float:
        """The mean over the examples."""
        return sum(self.per_example) / len(self.per_example)


def exact_match(
    predictions: Sequence[str], references: Sequence[str], *, ignore_case: bool = False
) -> Scores:
    """1 for each prediction that equals its reference, else 0 (big_vision's `transfers/vqa.py`, one answer).

    Args:
        predictions: what the model wrote; neither side is stripped or normalised.
        references: the right answers, in the same order.
        ignore_case: compare both sides in lower case.

    Raises:
        InputError: no examples, or unequal numbers of them.
    """
    if not references or len(predictions) != len(references):
        raise InputError(
            f"{len(predictions)} predictions cannot be scored against {len(references)} references",
            hint="give one prediction for each reference, and at least one of each",
        )
    if ignore_case:
        predictions, references = (
            [text.lower() for text in predictions],
            [text.lower() for text in references],
        )
    pairs = zip(predictions, references, strict=True)
    return Scores(per_example=tuple(float(prediction == reference) for prediction, reference in pairs))
