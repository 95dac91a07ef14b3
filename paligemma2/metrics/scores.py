"""What a metric takes and gives."""

import math
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
        groups: the group of each example, where `value` is a mean over groups; else empty. An example of the
            group "" counts nowhere: the rule leaves it out.
        parts: further numbers by name, as the accuracy of each type of question.
    """

    value: float
    values: tuple[float, ...]
    groups: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)


def mean_score(values: Sequence[float], groups: Sequence[str] = ()) -> float:
    """What `Scores.value` is by default: the mean, or the mean over groups of the mean in each.

    The order of the examples does not matter, to the last bit.

    Args:
        values: one for each example.
        groups: of each example, or nothing; an example of the group "" counts nowhere.

    Raises:
        InputError: no example counts.
    """
    members: dict[str, list[float]] = {}
    for value, group in zip(values, groups or ["all"] * len(values), strict=True):
        if group:
            members.setdefault(group, []).append(value)
    if not members:
        raise InputError(
            f"none of {len(values)} examples counts",
            hint="give at least one that the rule does not leave out",
        )
    means = [math.fsum(inside) / len(inside) for inside in members.values()]
    return math.fsum(means) / len(means)


def scored(
    values: Sequence[float], *, groups: Sequence[str] = (), parts: Mapping[str, float] | None = None
) -> Scores:
    """Scores whose value is `mean_score`; groups may be left empty where all examples are in one.

    Raises:
        InputError: no example counts.
    """
    return Scores(
        value=mean_score(values, groups), values=tuple(values), groups=tuple(groups), parts=dict(parts or {})
    )


def answered(references: Sequence[Reference]) -> tuple[str, ...]:
    """Groups that leave out examples without an answer, as big_vision does; empty where all have one."""
    if all(reference.answers for reference in references):
        return ()
    return tuple("all" if reference.answers else "" for reference in references)


def part_scores(values: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """Further numbers: the mean of each kind of example, and under "<kind>/questions" how many there are.

    Args:
        values: one for each example.
        names: the kind of each example; one without a kind ("") is left out.
    """
    members: dict[str, list[float]] = {}
    for value, name in zip(values, names, strict=True):
        if name:
            members.setdefault(name, []).append(value)
    parts: dict[str, float] = {}
    for name in sorted(members):
        parts[name] = math.fsum(members[name]) / len(members[name])
        parts[f"{name}/questions"] = float(len(members[name]))
    return parts


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
        reads_masks: whether it needs a decoder of masks: `metrics.segmentation.segmentation_iou` makes the
            metric that scores from one.
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
