"""What a metric takes and gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from paligemma2.errors import InputError

Mode: TypeAlias = Literal["paligemma", "official"]
MODES: tuple[Mode, ...] = ("paligemma", "official")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is right for one example.

    Attributes:
        answers: all right answers, in the order of the data set; repeated where people agree.
        unit: what is drawn anew when an interval is estimated, as the image that several questions are about;
            empty for the example itself.
        meta: what else the metric needs, as the type of a question or the mask of an object; plain JSON.
    """

    answers: tuple[str, ...] = ()
    unit: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How good predictions are.

    Attributes:
        value: the number, as a fraction (CIDEr may be above 1); tables print it times 100.
        values: one number for each example, in order; `value` is their mean, or the mean over `groups` of the
            mean in each group. Where a number of the whole corpus is no such mean (BLEU), the closest that
            can be said of one example.
        groups: the group of each example, where `value` is a mean over groups; else empty.
        parts: further numbers by name, as the accuracy of each type of question.
    """

    value: float
    values: tuple[float, ...]
    groups: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)


ScoreFunction: TypeAlias = Callable[[Sequence[str], Sequence[Reference]], Scores]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric by name, with the two rules that there may be.

    Attributes:
        name: as tables call it, "VQA accuracy".
        source: where the rules stand.
        version: counts changes of what it computes; part of the hash of a protocol.
        paligemma: the rule that the card's numbers were made with (big_vision's evaluator).
        official: the data set's own script, where it differs; None where it does not, or there is none.
        reads_masks: whether predictions must be decoded to masks first, see `metrics.segmentation`.
    """

    name: str
    source: str
    version: int = 1
    paligemma: ScoreFunction
    official: ScoreFunction | None = None
    reads_masks: bool = False

    def __call__(
        self, predictions: Sequence[str], references: Sequence[Reference], mode: Mode = "paligemma"
    ) -> Scores:
        """Score predictions.

        Args:
            predictions: what the model wrote.
            references: of each prediction.
            mode: "official" falls back to the same rule where the metric has only one.

        Raises:
            InputError: there are not as many references as predictions, there are none at all, or there is no
                such mode.
        """
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}", hint=f"use one of {', '.join(MODES)}")
        if len(predictions) != len(references):
            raise InputError(
                f"{len(predictions)} predictions and {len(references)} references",
                hint="give one reference for each prediction",
            )
        if not predictions:
            raise InputError("nothing to score", hint="give at least one prediction")
        function = self.official if mode == "official" and self.official is not None else self.paligemma
        return function(predictions, references)
