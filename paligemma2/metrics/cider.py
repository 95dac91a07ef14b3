"""CIDEr-D: agreement of captions in words that are rare in the corpus (arXiv:1411.5726)."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from paligemma2.metrics.ngrams import LONGEST, Corpus, Integers, NGrams, read_corpus

SIGMA = 6.0
_SCALE = 10.0

Floats: TypeAlias = npt.NDArray[np.float64]


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, ...]:
    """The CIDEr-D of each image, 0 to 10, as in pycocoevalcap; that of the corpus is their mean.

    How rare an n-gram (n = 1 to 4) is, is read from the references of all images given: log(images / images
    with it in a reference). So a corpus of one image has 0, and scores of two corpora do not compare. Lengths
    are compared by their numbers of bigrams, with a Gaussian of `SIGMA`.

    Args:
        predictions: one caption of each image, its tokens parted by white space (`ptb_tokenizer.tokenize`).
        references: at least one caption of each image, in the same form.

    Raises:
        InputError: see `ngrams.read_corpus`.
    """
    corpus = read_corpus(predictions, references)
    images = corpus.image_of_reference
    bigrams, reference_bigrams = (
        np.maximum(lengths - 1, 0) for lengths in (corpus.lengths, corpus.reference_lengths)
    )
    penalty = np.exp(-((bigrams[images] - reference_bigrams) ** 2) / (2 * SIGMA**2))
    cosines = penalty * sum(_cosines(ngrams, corpus) for ngrams in corpus.ngrams)  # [references]
    sums = _sums(images, cosines, corpus.num_images)
    scores = _SCALE * sums / (LONGEST * np.bincount(images, minlength=corpus.num_images))
    return tuple(scores.tolist())


def _cosines(ngrams: NGrams, corpus: Corpus) -> Floats:
    """Of each reference with its prediction, whose weights count up to its own: [references]."""
    rarity = _rarity(ngrams, corpus)
    ours = ngrams.count * rarity[ngrams.ngram]
    theirs = ngrams.reference_count * rarity[ngrams.reference_ngram]
    num_references = len(corpus.image_of_reference)
    is_shared = ngrams.shared >= 0
    limits = theirs[is_shared]
    products = np.minimum(ours[ngrams.shared[is_shared]], limits) * limits
    norms = np.sqrt(_sums(ngrams.image, ours**2, corpus.num_images))[corpus.image_of_reference]
    norms *= np.sqrt(_sums(ngrams.reference, theirs**2, num_references))
    cosines = _sums(ngrams.reference[is_shared], products, num_references)
    np.divide(cosines, norms, out=cosines, where=norms > 0)  # without words both are 0
    return cosines


def _rarity(ngrams: NGrams, corpus: Corpus) -> Floats:
    """log(images / images that have it in a reference), where none counts as one: [ngrams]."""
    image = corpus.image_of_reference[ngrams.reference]
    found = np.unique(image * ngrams.num_ngrams + ngrams.reference_ngram) % ngrams.num_ngrams
    num_images = np.bincount(found, minlength=ngrams.num_ngrams)
    rarity: Floats = np.log(corpus.num_images) - np.log(np.maximum(num_images, 1))
    return rarity


def _sums(places: Integers, values: Floats, num_places: int) -> Floats:
    return np.bincount(places, values, minlength=num_places).astype(np.float64)
