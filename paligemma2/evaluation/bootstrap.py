"""How far a number may be from what other examples of the same kind would give: a bootstrap interval.

What is drawn anew, with replacement, are the units: the pictures that several questions are about (Efron and
Tibshirani 1993, sections 6 and 8.3: clusters are drawn whole, strata each by itself). The values of examples
stay as they are, so that CIDEr keeps its document frequencies.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from paligemma2.errors import InputError
from paligemma2.metrics.scores import Scores

SAMPLES = 1000
_LEVEL = 0.95
_CHUNK = 2_000_000  # numbers that are drawn at a time


def bootstrap_interval(
    scores: Sequence[Scores], units: Sequence[Sequence[str]], *, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The middle 95 % of the means that drawn units give.

    Args:
        scores: of each split; the number is the mean over splits. Inside of a split with groups it is the
            mean over groups, and units are drawn inside of each group.
        units: for each split the unit of each example; an empty one is the example itself.
        samples: how often units are drawn.
        seed: of the drawing.

    Returns:
        (low, high), fractions as the values are. Where `Scores.value` is no mean of its values, the interval
        of the mean is moved by the difference.

    Raises:
        InputError: nothing was scored, there is not one unit for each value, or `samples` is below 1.
    """
    if samples < 1 or not scores:
        raise InputError(f"{samples} samples of {len(scores)} splits", hint="give at least one of each")
    rng = np.random.Generator(np.random.PCG64(seed))
    total = np.zeros(samples)
    for each, names in zip(scores, units, strict=True):
        total += _of_split(each, names, samples, rng)
    total /= len(scores)
    low, high = np.quantile(total, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _of_split(
    scores: Scores, units: Sequence[str], samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The number of a split for each sample, float64 [samples]."""
    values = np.asarray(scores.values, dtype=np.float64)
    if not len(values) or len(units) != len(values):
        raise InputError(
            f"{len(values)} values and {len(units)} units",
            hint="give one unit for each value, and at least one",
        )
    drawn, centre, strata = np.zeros(samples), 0.0, list(_strata(scores.groups, len(values)))
    for members in strata:
        drawn += _means(values[members], _numbers(units, members), samples, rng)
        centre += float(values[members].mean())
    return drawn / len(strata) + (scores.value - centre / len(strata))


def _strata(groups: Sequence[str], count: int) -> Iterator[NDArray[np.intp]]:
    """The examples of each group; all of them where there are no groups. The group "" counts nowhere."""
    if not groups:
        yield np.arange(count)
        return
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    for number, name in enumerate(names.tolist()):
        if name:
            yield np.flatnonzero(numbers == number)


def _numbers(units: Sequence[str], members: NDArray[np.intp]) -> NDArray[np.intp]:
    """The number of the unit of each member, from 0 without gaps, in the order in which they come."""
    known: dict[str, int] = {}
    numbers = np.empty(len(members), dtype=np.intp)
    for place, member in enumerate(members.tolist()):
        # A number of its own for an example without a unit: no unit is called like this.
        name = units[member] or f"\0{place}"
        numbers[place] = known.setdefault(name, len(known))
    return numbers


def _means(
    values: NDArray[np.float64], numbers: NDArray[np.intp], samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The mean over the examples of drawn units, for each sample, float64 [samples]."""
    sums, counts = np.bincount(numbers, weights=values), np.bincount(numbers)
    num_units = len(sums)
    are_single = bool((counts == 1).all())
    means = np.empty(samples)
    step = max(1, _CHUNK // num_units)
    for start in range(0, samples, step):
        size = min(step, samples - start)
        places = rng.integers(0, num_units, (size, num_units), dtype=np.int32)
        taken = counts[places].sum(axis=1) if not are_single else num_units
        means[start : start + size] = sums[places].sum(axis=1) / taken
    return means
