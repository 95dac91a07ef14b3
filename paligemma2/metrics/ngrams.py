"""Sequences of words in captions, counted for a whole corpus at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from paligemma2.errors import InputError

LONGEST = 4
Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class NGrams:
    """How often predictions and references of a corpus have each sequence of some number of words.

    Attributes:
        image: int64 [entries], of each n-gram of each prediction, in ascending order.
        ngram: int64 [entries], its number.
        count: int64 [entries], how often the prediction has it.
        reference: int64 [others], the number of a reference among those of all images.
        reference_ngram: int64 [others].
        reference_count: int64 [others].
        shared: int64 [others], the entry of the prediction that has this n-gram; -1 if it has not.
        num_ngrams: of the corpus.
    """

    image: Integers
    ngram: Integers
    count: Integers
    reference: Integers
    reference_ngram: Integers
    reference_count: Integers
    shared: Integers
    num_ngrams: int


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One caption for each image, and its references.

    Attributes:
        image_of_reference: int64 [references], ascending.
        lengths: int64 [images], words of the predictions.
        reference_lengths: int64 [references].
        ngrams: of 1, 2, 3 and 4 words.
    """

    image_of_reference: Integers
    lengths: Integers
    reference_lengths: Integers
    ngrams: tuple[NGrams, ...]

    @property
    def num_images(self) -> int:
        """How many there are."""
        return len(self.lengths)


def read_corpus(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Corpus:
    """Count the n-grams of captions whose words are parted by white space.

    Raises:
        InputError: there are no predictions, not as many lists of references, or a list is empty.
    """
    check_references(predictions, references)
    image_of_reference = np.repeat(np.arange(len(references)), [len(captions) for captions in references])
    texts = [*predictions, *(caption for captions in references for caption in captions)]
    captions = [text.split() for text in texts]
    lengths = np.array([len(words) for words in captions])
    ngrams = tuple(
        _ngrams(caption, ngram, image_of_reference, len(predictions))
        for caption, ngram in _numbered(captions, lengths)
    )
    return Corpus(
        image_of_reference=image_of_reference,
        lengths=lengths[: len(predictions)],
        reference_lengths=lengths[len(predictions) :],
        ngrams=ngrams,
    )


def check_references(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Whether there is something to compare every prediction with.

    Raises:
        InputError: there are no predictions, not as many lists of references, or a list is empty.
    """
    if not predictions or len(predictions) != len(references):
        raise InputError(
            f"{len(predictions)} captions cannot be scored against {len(references)} lists of references",
            hint="give one caption for each image, and at least one",
        )
    for number, captions in enumerate(references):
        if isinstance(captions, str) or not captions:
            raise InputError(
                f"the references of image {number} are {captions!r}",
                hint="give a list of at least one reference caption for each image",
            )


def _numbered(captions: Sequence[Sequence[str]], lengths: Integers) -> Iterator[tuple[Integers, Integers]]:
    """For n from 1 to 4: of each n-gram in its place, the caption that it is in, and its number."""
    numbers: dict[str, int] = {}
    words = np.array([numbers.setdefault(word, len(numbers)) for some in captions for word in some], np.int64)
    caption = np.repeat(np.arange(len(captions)), lengths)
    begins = np.arange(len(words))
    ngram = words
    for length in range(1, LONGEST + 1):
        yield caption[begins], ngram
        is_longer = begins + length < len(words)
        begins, ngram = begins[is_longer], ngram[is_longer]
        is_longer = caption[begins] == caption[begins + length]
        begins, ngram = begins[is_longer], ngram[is_longer]
        _, ngram = np.unique(ngram * len(numbers) + words[begins + length], return_inverse=True)


def _ngrams(caption: Integers, ngram: Integers, image_of_reference: Integers, num_images: int) -> NGrams:
    num_ngrams = int(ngram.max(initial=0)) + 1
    keys, counts = np.unique(caption * num_ngrams + ngram, return_counts=True)
    num_ours = int(np.searchsorted(keys, num_images * num_ngrams))
    ours, theirs = keys[:num_ours], keys[num_ours:]
    reference, reference_ngram = theirs // num_ngrams - num_images, theirs % num_ngrams
    wanted = image_of_reference[reference] * num_ngrams + reference_ngram
    place = np.searchsorted(ours, wanted)
    is_shared = np.append(ours, -1)[place] == wanted
    return NGrams(
        image=ours // num_ngrams,
        ngram=ours % num_ngrams,
        count=counts[:num_ours],
        reference=reference,
        reference_ngram=reference_ngram,
        reference_count=counts[num_ours:],
        shared=np.where(is_shared, place, -1),
        num_ngrams=num_ngrams,
    )
