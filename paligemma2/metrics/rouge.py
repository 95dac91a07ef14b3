"""ROUGE-L of captions (Lin 2004), as coco-caption computes it."""

from collections.abc import Sequence

from paligemma2.metrics.ngrams import check_references

BETA = 1.2


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, ...]:
    """The ROUGE-L of each image, 0 to 1; that of a corpus is their mean.

    The longest sequence of words, with gaps, that a caption and a reference share, as a share of the caption
    (precision) and of the reference (recall); recall counts `BETA` times as much. The best precision and the
    best recall may come from two references.

    Args:
        predictions: one caption of each image, its tokens parted by single spaces (`ptb_tokenizer.tokenize`).
        references: at least one caption of each image, in the same form.

    Raises:
        InputError: see `ngrams.check_references`.
    """
    check_references(predictions, references)
    return tuple(
        _score(prediction.split(" "), [caption.split(" ") for caption in captions])
        for prediction, captions in zip(predictions, references, strict=True)
    )


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words are in both, in the same order (by Hyyrö 2004, with a row of the table as bits)."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(a)) - 1
    free = every
    for word in b:
        matched = free & places.get(word, 0)
        free = ((free + matched) | (free - matched)) & every
    return len(a) - free.bit_count()


def _score(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    shared = [longest_common_subsequence(reference, words) for reference in references]
    precision = max(shared) / len(words)
    recall = max(count / len(reference) for count, reference in zip(shared, references, strict=True))
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
