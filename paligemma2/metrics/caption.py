"""Scores of captions."""

import math
from collections.abc import Mapping, Sequence

from paligemma2.metrics.bleu import bleu
from paligemma2.metrics.cider import cider
from paligemma2.metrics.ptb_tokenizer import tokenize
from paligemma2.metrics.rouge import rouge_l
from paligemma2.metrics.scores import Metric, Reference, Scores


def tokenize_references(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """The tokens of the reference captions of each image, read as one text in their order."""
    lines = iter(tokenize([caption for captions in references for caption in captions]))
    return [[next(lines) for _ in captions] for captions in references]


def cider_scores(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """CIDEr-D of one caption for each image, with BLEU-1 to BLEU-4 and ROUGE-L beside it as `parts`.

    `value` is the number of coco-caption, 1.41 where tables print 141. How rare words are is read from the
    references given; whoever draws images anew must draw `values`, not score a part of the corpus.

    Args:
        predictions: captions as written, in any language; the tokenizer is the English one for all.
        references: the answers are the reference captions of the image.

    Raises:
        InputError: an image has no reference, see `ngrams.read_corpus`.
    """
    ours = tokenize(predictions)
    theirs = tokenize_references([reference.answers for reference in references])
    values = cider(ours, theirs)
    return Scores(value=_mean(values), values=values, parts=_parts(ours, theirs))


def _parts(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, float]:
    by_length = bleu(predictions, references).corpus
    return {
        **{f"BLEU-{length}": value for length, value in enumerate(by_length, start=1)},
        "ROUGE-L": _mean(rouge_l(predictions, references)),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


CIDER = Metric(
    name="CIDEr",
    source="coco-caption (pycocoevalcap 1.2); the same for all languages (big_vision's evaluator)",
    paligemma=cider_scores,
)
