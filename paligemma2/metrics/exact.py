"""Answers that are right when they equal the right one, letter by letter.

big_vision's `transfers/vqa.py` with one answer: nothing is stripped or normalised. GQA, xGQA, AI2D, MaRVL,
A-OKVQA (multiple choice) and the questions of MSR-VTT, MSVD and ActivityNet are scored so; OCR-VQA compares
in lower case. Where an example has several right answers, each is right. One without answers is left out.
"""

from collections.abc import Sequence
from functools import partial

from paligemma2.metrics.scores import Metric, Reference, Scores, answered, scored

_SOURCE = "google-research/big_vision, evaluators/proj/paligemma/transfers/vqa.py"


def exact_match(
    predictions: Sequence[str], references: Sequence[Reference], *, ignore_case: bool = False
) -> Scores:
    """1 for each prediction that is one of its answers, else 0.

    Args:
        predictions: what the model wrote.
        references: of each prediction; only `answers` is read.
        ignore_case: compare both sides in lower case (`str.lower`, not case folding: "ß" is not "ss").

    Raises:
        InputError: no example has an answer.
    """
    if ignore_case:
        values = [
            float(prediction.lower() in [answer.lower() for answer in reference.answers])
            for prediction, reference in zip(predictions, references, strict=True)
        ]
    else:
        values = [
            float(prediction in reference.answers)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
    return scored(values, groups=answered(references))


EXACT_MATCH = Metric(name="accuracy", source=_SOURCE, paligemma=exact_match)
"""Equality; also the official rule of xGQA, AI2D, MaRVL, MSR-VTT-QA and MSVD-QA."""

EXACT_MATCH_LOWER = Metric(name="accuracy", source=_SOURCE, paligemma=partial(exact_match, ignore_case=True))
"""Equality in lower case: OCR-VQA, which has no script of its own."""

AOKVQA_MULTIPLE_CHOICE = Metric(
    name="multiple-choice accuracy",
    source=f"{_SOURCE}; allenai/aokvqa, evaluation/eval_predictions.py, is the same",
    paligemma=exact_match,
)
"""A-OKVQA where the choices are given: the answer must be the text of the right choice."""
