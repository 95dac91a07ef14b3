"""BLEU-1 to BLEU-4 (Papineni et al. 2002) with the closest reference length, as in coco-caption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paligemma2.metrics.ngrams import LONGEST, Corpus, Integers, NGrams, read_corpus

# pycocoevalcap adds these, so that nothing is divided by 0; they are seen in the ninth digit.
_TINY, _SMALL = 1e-15, 1e-9


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """BLEU-1, -2, -3 and -4, 0 to 1.

    Attributes:
        corpus: of all images together, which is not the mean over the images.
        per_image: of each image alone.
    """

    corpus: tuple[float, ...]
    per_image: tuple[tuple[float, ...], ...]


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Bleu:
    """BLEU of captions.

    Args:
        predictions: one caption of each image, its tokens parted by white space (`ptb_tokenizer.tokenize`).
        references: at least one caption of each image, in the same form.

    Raises:
        InputError: see `ngrams.read_corpus`.
    """
    corpus = read_corpus(predictions, references)
    right = np.stack([_num_right(ngrams, corpus.num_images) for ngrams in corpus.ngrams], axis=1)
    given = np.stack([np.maximum(corpus.lengths - shorter, 0) for shorter in range(LONGEST)], axis=1)
    closest = _closest_lengths(corpus)
    return Bleu(
        corpus=_scores(right.sum(0).tolist(), given.sum(0).tolist(), sum(corpus.lengths), sum(closest)),
        per_image=tuple(
            map(_scores, right.tolist(), given.tolist(), corpus.lengths.tolist(), closest.tolist())
        ),
    )


def _num_right(ngrams: NGrams, num_images: int) -> Integers:
    """Of each image: n-grams of the prediction, each as often as the reference that has it most: [images]."""
    is_shared = ngrams.shared >= 0
    most = np.zeros_like(ngrams.count)
    np.maximum.at(most, ngrams.shared[is_shared], ngrams.reference_count[is_shared])
    return np.bincount(ngrams.image, np.minimum(most, ngrams.count), minlength=num_images).astype(np.int64)


def _closest_lengths(corpus: Corpus) -> Integers:
    """The length of a reference that is closest to that of the prediction, the shorter of two: [images]."""
    distances = abs(corpus.reference_lengths - corpus.lengths[corpus.image_of_reference])
    order = np.lexsort((corpus.reference_lengths, distances, corpus.image_of_reference))
    firsts = np.searchsorted(corpus.image_of_reference, np.arange(corpus.num_images))
    return corpus.reference_lengths[order[firsts]]


def _scores(right: Sequence[int], given: Sequence[int], length: int, closest: int) -> tuple[float, ...]:
    """BLEU-1 to -4 from numbers of n-grams, and of words of predictions and references."""
    ratio = (length + _TINY) / (closest + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, scores = 1.0, []
    for size, (num_right, num_given) in enumerate(zip(right, given, strict=True), start=1):
        product *= (num_right + _TINY) / (num_given + _SMALL)
        scores.append(brevity * product ** (1 / size))
    return tuple(scores)
