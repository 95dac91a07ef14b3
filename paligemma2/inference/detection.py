"""Objects with scores, from one answer or from those to many prompts about a picture.

The score of an object is the probability that a box stands where the model wrote one, times the probability
of its label: the product of the probabilities of "some location token" at its four places, times the
geometric mean of the probabilities of its label's tokens. Where exactly the box lies does not count: a
location token shares its probability with the bins beside it, which says how sharp an edge is and not whether
the object is there. All of it comes from the decode that wrote the answer. `benchmarks/detection_scores.py`
compares this score with others.
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from paligemma2.errors import InputError
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.types import Detection, Generation, ParsedAnswer

_LOCATION = re.compile(r"<loc[0-9]{4}>")
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which of the objects found are given.

    Attributes:
        min_score: objects below are left out.
        iou_threshold: of two boxes of one label that overlap at least as much, the one with the lower score
            is left out; 1 leaves out exact repeats only.
        across_labels: boxes of different labels suppress each other too.
        max_objects: the most objects per picture, those with the highest scores; None for all.

    Raises:
        InputError: a number is out of range.
    """

    min_score: float = 0.0
    iou_threshold: float = 0.7
    across_labels: bool = False
    max_objects: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise InputError(f"min_score is {self.min_score}", hint="give a score from 0 to 1")
        if not 0 < self.iou_threshold <= 1:
            raise InputError(
                f"iou_threshold is {self.iou_threshold}",
                hint="give an overlap above 0, up to 1 for exact repeats only",
            )
        if self.max_objects is not None and self.max_objects < 1:
            raise InputError(f"max_objects is {self.max_objects}", hint="give at least 1, or None for all")


def read_objects(generation: Generation, tokenizer: Tokenizer) -> ParsedAnswer:
    """`parse_answer` of what the model wrote, with the scores of the objects.

    Args:
        generation: with the probabilities of its tokens.
        tokenizer: of the model that wrote it.

    Raises:
        InputError: the probabilities are not those of the tokens.
    """
    if not len(generation.token_ids) == len(generation.log_probs) == len(generation.location_log_probs):
        raise InputError(
            f"{len(generation.token_ids)} tokens with {len(generation.log_probs)} probabilities",
            hint="give a result of `PaliGemma2.generate` as it is, or use `parse_answer`",
        )
    parsed = parse_answer(generation.text)
    spans = token_spans(tokenizer, generation.token_ids)
    scored = [
        replace(found, score=_score(found, span, generation, spans))
        for found, span in zip(parsed.detections, parsed.spans, strict=True)
    ]
    return replace(parsed, detections=tuple(scored))


def token_spans(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[Span]:
    """Where each token stands in `tokenizer.decode(token_ids)`: (start, end) in characters.

    Tokens that spell one character in bytes all have that character, and so has a token among them that is
    not shown; elsewhere it has none.
    """
    decoder = tokenizer.decoder()
    spans: list[Span] = []
    waiting: list[int] = []  # places of tokens whose character has not come yet
    end = 0
    for place, token_id in enumerate(token_ids):
        piece = decoder.push(token_id)
        is_byte = tokenizer.byte_value(token_id) is not None
        start = end
        if waiting and piece:
            for earlier in waiting:
                spans[earlier] = (end, end + 1)
            waiting = []
            # Its last byte belongs to the character; anything else means that it stays unfinished.
            completes = is_byte and len(piece) == 1 and not decoder.is_inside_character
            start = end if completes else end + 1
        end += len(piece)
        spans.append((start, end))
        if decoder.is_inside_character:
            waiting.append(place)
    for place in waiting:
        spans[place] = (end, end + 1)
    return spans


def select(detections: Sequence[Detection], selection: Selection) -> tuple[Detection, ...]:
    """The objects that remain, the highest score first, equal scores in the order given.

    The best object suppresses those it overlaps, then the best of the others, and so on. An object without
    a score counts as 0.
    """
    ranked = sorted((found for found in detections if _known(found) >= selection.min_score), key=_rank)
    corners = np.array([_corners(found) for found in ranked]).reshape(-1, 4)
    numbers = {label: number for number, label in enumerate({found.label: None for found in ranked})}
    labels = np.array([numbers[found.label] for found in ranked], dtype=np.int64)
    is_left = np.ones(len(ranked), dtype=bool)
    kept: list[Detection] = []
    for place, found in enumerate(ranked):
        if len(kept) == selection.max_objects:
            break
        if not is_left[place]:
            continue
        kept.append(found)
        is_rival = is_left if selection.across_labels else is_left & (labels == labels[place])
        rivals = np.flatnonzero(is_rival)
        is_left[rivals[_overlaps(corners[place], corners[rivals]) >= selection.iou_threshold]] = False
    return tuple(kept)


def label_groups(labels: Sequence[str], labels_per_prompt: int) -> list[tuple[str, ...]]:
    """The labels in their order, in as few groups as possible, whose sizes differ by at most one.

    Raises:
        InputError: there is no label, one is given twice, or `labels_per_prompt` is below 1.
    """
    if labels_per_prompt < 1:
        raise InputError(f"labels_per_prompt is {labels_per_prompt}", hint="give at least 1")
    names = [label.strip() for label in labels]
    if not names:
        raise InputError("no label to look for", hint="name at least one thing")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the label {twice!r} is given twice", hint="give each label once")
    count = -(-len(names) // labels_per_prompt)
    edges = [len(names) * place // count for place in range(count + 1)]
    return [tuple(names[start:end]) for start, end in pairwise(edges)]


def _score(found: Detection, span: Span, generation: Generation, spans: Sequence[Span]) -> float:
    start, end = span
    places = [
        place
        for match in islice(_LOCATION.finditer(generation.text, start, end), 4)
        for place in _tokens_in(spans, match.span())
    ]
    log_score = sum(generation.location_log_probs[place] for place in places)
    label = _tokens_in(spans, (end - len(found.label), end))
    if label:
        log_score += fmean(generation.log_probs[place] for place in label)
    return min(math.exp(log_score), 1.0)  # sums of float32 may come out above 0


def _tokens_in(spans: Sequence[Span], part: Span) -> range:
    """The places of the tokens that share characters with a part of the text."""
    start, end = part
    return range(
        bisect_right(spans, start, key=lambda span: span[1]),
        bisect_left(spans, end, key=lambda span: span[0]),
    )


def _known(found: Detection) -> float:
    return found.score or 0.0


def _rank(found: Detection) -> float:
    return -_known(found)


def _corners(found: Detection) -> tuple[float, float, float, float]:
    return found.box.y_min, found.box.x_min, found.box.y_max, found.box.x_max


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """`metrics.detection.box_iou` of one box with many: [4], [boxes, 4] to [boxes]."""
    first, last = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = _areas(first, last)
    covered = _areas(box[:2], box[2:]) + _areas(others[:, :2], others[:, 2:]) - shared
    return np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)


def _areas(first: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.maximum(last - first, 0.0)
    areas: NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return areas
