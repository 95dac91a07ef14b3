"""Scores of boxes."""

from collections.abc import Callable, Sequence

from paligemma2.types import Box, Detection

_RANKED_DIGITS = 9


def box_iou(a: Box, b: Box) -> float:
    """Area that two boxes share, over the area that they cover together: 0 (apart) to 1 (equal).

    A box without area (or with its corners the wrong way round) has 0 with every box, itself included.
    """
    shared = Box(
        y_min=max(a.y_min, b.y_min),
        x_min=max(a.x_min, b.x_min),
        y_max=min(a.y_max, b.y_max),
        x_max=min(a.x_max, b.x_max),
    )
    covered = area(a) + area(b) - area(shared)
    return area(shared) / covered if covered > 0 else 0.0


def area(box: Box) -> float:
    """Area as a fraction of the image; 0 for a box whose corners are the wrong way round."""
    return max(0.0, box.y_max - box.y_min) * max(0.0, box.x_max - box.x_min)


def mean_box_iou(predicted: Sequence[Detection], expected: Sequence[Detection]) -> float:
    """Mean overlap of the objects of one picture, where a missing or an extra object counts as 0.

    A predicted and an expected object can be partners when their labels are equal. Partners are chosen
    greedily: the pair with the highest IoU first (of equal ones, the objects named first), every object at
    most once. The sum of the partners' IoU is divided by max(number predicted, number expected). Where both
    are empty the score is 1.
    """
    return mean_overlap(predicted, expected, lambda guess, truth: box_iou(guess.box, truth.box))


def mean_overlap(
    predicted: Sequence[Detection],
    expected: Sequence[Detection],
    overlap: Callable[[Detection, Detection], float],
) -> float:
    """`mean_box_iou` with another overlap, from 0 to 1, of two objects of one label."""
    count = max(len(predicted), len(expected))
    return sum(_partner_overlaps(predicted, expected, overlap)) / count if count else 1.0


def _partner_overlaps(
    predicted: Sequence[Detection],
    expected: Sequence[Detection],
    overlap: Callable[[Detection, Detection], float],
) -> list[float]:
    pairs = [
        (overlap(guess, truth), i, j)
        for i, guess in enumerate(predicted)
        for j, truth in enumerate(expected)
        if guess.label == truth.label
    ]
    # Rounded, so that which of two equal overlaps comes first is not left to the last bit of a float.
    pairs.sort(key=lambda pair: (-round(pair[0], _RANKED_DIGITS), pair[1], pair[2]))
    free_guesses, free_truths = set(range(len(predicted))), set(range(len(expected)))
    overlaps = []
    for value, i, j in pairs:
        if i in free_guesses and j in free_truths:
            free_guesses.remove(i)
            free_truths.remove(j)
            overlaps.append(value)
    return overlaps
