"""ActivityNet-QA (Yu et al. 2019, arXiv:1906.02467): questions about videos, of nine types."""

from collections.abc import Sequence

from paligemma2.metrics.exact import exact_match
from paligemma2.metrics.scores import Metric, Reference, Scores, part_scores, scored

TYPES = (
    "motion",
    "spatial relation",
    "temporal relation",
    "yes/no",
    "color",
    "object",
    "location",
    "number",
    "other",
)
"""The names of the types of questions, 0 to 8; from the fourth on they are called free."""

_FIRST_FREE = 3


def activitynet_qa_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The authors' script: equality, over all questions and for each type.

    Args:
        predictions: what the model wrote.
        references: of each prediction. `meta` may have `type`, 0 to 8.

    Returns:
        Scores whose parts are the accuracies of each type in `TYPES` that occurs, and "free" as the script
        counts it: right answers to free questions, over the questions of all types but the three that come
        first in the data. Where those are not the types 0, 1 and 2 it is not a share of anything, and may be
        above 1.

    Raises:
        InputError: no example has an answer.
    """
    scores = exact_match(predictions, references)
    counted = [
        (value, int(reference.meta["type"]))
        for value, reference in zip(scores.values, references, strict=True)
        if reference.answers and "type" in reference.meta
    ]
    parts = part_scores([value for value, _ in counted], [TYPES[number] for _, number in counted])
    three_first = list(dict.fromkeys(number for _, number in counted))[:_FIRST_FREE]
    num_questions = sum(number not in three_first for _, number in counted)
    if num_questions:
        parts["free"] = sum(value for value, number in counted if number >= _FIRST_FREE) / num_questions
    return scored(scores.values, groups=scores.groups, parts=parts)


ACTIVITYNET_QA_ACCURACY = Metric(
    name="accuracy",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/vqa.py; official: "
    "MILVLG/activitynet-qa, evaluation/eval.py",
    paligemma=exact_match,
    official=activitynet_qa_accuracy,
)
