"""In which order examples, sources and answers come: pure functions of a seed and a place.

A place counts all examples that a run has seen, from 0; nothing depends on what came before it.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from paligemma2.errors import ConfigError
from paligemma2.types import Example

AnswerRule: TypeAlias = Literal["choice_no_replacement", "choice"]
ANSWER_RULES: tuple[AnswerRule, ...] = ("choice_no_replacement", "choice")
_BLOCK = 10_000
Answer = TypeVar("Answer")


def shuffled(count: int, *key: object) -> NDArray[np.uint32]:
    """The numbers below `count` in an order drawn by the key, uint32 [count]."""
    digest = hashlib.sha256(" ".join(map(str, key)).encode()).digest()
    # NumPy promises never to change what this older generator draws.
    rng = np.random.RandomState(np.frombuffer(digest, dtype="<u4").astype(np.uint32))
    return rng.permutation(count).astype(np.uint32)


def choose_answer(
    answers: Sequence[Answer], rule: AnswerRule, *, seed: int, example: str, visit: int
) -> Answer:
    """The answer to learn when an example comes for the `visit`-th time, from 0.

    Args:
        answers: at least one.
        rule: "choice_no_replacement" gives each of them once before one comes again, in another order each
            time (big_vision's operation of that name); "choice" draws anew each time.
        seed: of the run.
        example: its id, so that examples do not go in step.
        visit: how often the example came before.
    """
    if len(answers) == 1:
        return answers[0]
    if rule == "choice":
        return answers[random.Random(f"{seed} {example} {visit}").randrange(len(answers))]
    cycle, at = divmod(visit, len(answers))
    order = random.Random(f"{seed} {example} {cycle}").sample(range(len(answers)), len(answers))
    return answers[order[at]]


def choose_question(example: Example, rule: AnswerRule, *, seed: int, name: str, visit: int) -> Example:
    """The example with the question and the answer whose turn it is, of `variants` or `answers`.

    Variants and answers come by the rule: a variant's own answers take turns when the variant comes again.
    The way to ask is drawn anew each time (as big_vision's `refcoco_seg.py` has it).

    Args:
        example: of any kind; one with a single answer is given back.
        rule: as for `choose_answer`.
        seed: of the run.
        name: as `example` of `choose_answer`.
        visit: how often the example came before.
    """
    if not example.variants:
        if not example.answers:
            return example
        suffix = choose_answer(example.answers, rule, seed=seed, example=name, visit=visit)
        return replace(example, suffix=suffix)
    numbers = range(len(example.variants))
    number = choose_answer(numbers, rule, seed=seed, example=name, visit=visit)
    variant, again = example.variants[number], visit // len(numbers)
    if rule == "choice":
        again = visit
    inner = f"{name} {number}"
    return replace(
        example,
        prefix=choose_answer(variant.prefixes, "choice", seed=seed, example=f"{inner} prefix", visit=visit),
        suffix=choose_answer(variant.answers, rule, seed=seed, example=inner, visit=again),
        answers=variant.answers if len(variant.answers) > 1 else (),
        variants=(),
    )


class EpochOrder:
    """Which example of a source stands at a place: each once per epoch, in another order each epoch.

    Args:
        count: examples of the source, at least one.
        key: what draws the order: the seed of the run and the number of the source.
    """

    def __init__(self, count: int, *key: object) -> None:
        self.count = count
        self._key = key
        self._orders: dict[int, NDArray[np.uint32]] = {}

    def __call__(self, place: int) -> int:
        """The number of the example."""
        epoch, at = divmod(place, self.count)
        if epoch not in self._orders:
            # A batch holds the end of an epoch and the begin of the next; older ones do not come back.
            self._orders = {old: self._orders[old] for old in self._orders if old == epoch - 1}
            self._orders[epoch] = shuffled(self.count, *self._key, epoch)
        return int(self._orders[epoch][at])


class Mixture:
    """Which source a place belongs to, and which place that is within the source.

    Of every 10,000 places in a row each source has its share, to the nearest place, in an order drawn by the
    seed.

    Args:
        weights: of the sources; they need not add up to one.
        seed: of the run.

    Raises:
        ConfigError: a weight is not positive, or too small to come at all.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        self._seed = seed
        self._counts = _shares(weights, _BLOCK)
        self._sources = np.repeat(np.arange(len(weights)), self._counts)
        # Of each slot of a block, how many slots of the same source stand before it.
        self._blocks: dict[int, tuple[NDArray[np.intp], NDArray[np.intp]]] = {}

    def __call__(self, place: int) -> tuple[int, int]:
        """(number of the source, place within the source)."""
        if len(self._counts) == 1:
            return 0, place
        block, at = divmod(place, _BLOCK)
        if block not in self._blocks:
            self._blocks = {old: self._blocks[old] for old in self._blocks if old == block - 1}
            self._blocks[block] = self._drawn(block)
        sources, ranks = self._blocks[block]
        source = int(sources[at])
        return source, block * int(self._counts[source]) + int(ranks[at])

    def _drawn(self, block: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        sources = self._sources[shuffled(_BLOCK, self._seed, "sources", block)]
        ranks = np.empty(_BLOCK, dtype=np.intp)
        for source, count in enumerate(self._counts):
            ranks[sources == source] = np.arange(count)
        return sources, ranks


def _shares(weights: Sequence[float], total: int) -> NDArray[np.intp]:
    """Whole numbers in proportion to the weights that add up to `total` (by the largest remainder)."""
    if not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError(f"the weights of the sources are {list(weights)}", hint="give positive numbers")
    exact = np.array(weights) / sum(weights) * total
    shares = np.floor(exact).astype(np.intp)
    shares[np.argsort(shares - exact, kind="stable")[: total - int(shares.sum())]] += 1
    if not shares.all():
        raise ConfigError(
            f"a source of weight {min(weights):g} among {sum(weights):g} would hardly ever come",
            hint=f"give each source at least a {total}th of the weights, or leave it out",
        )
    return shares
