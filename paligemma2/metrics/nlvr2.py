"""NLVR2 (Suhr et al. 2019, arXiv:1811.00491): is a sentence true of two pictures."""

from collections.abc import Sequence

from paligemma2.metrics.exact import exact_match
from paligemma2.metrics.scores import Metric, Reference, Scores, scored


def nlvr2_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The authors' script: equality in lower case, without white space after the prediction.

    Args:
        predictions: what the model wrote.
        references: of each prediction. `meta` may have `identifier`, "split-sentence-pair-part": pairs with
            one sentence differ in their third number.

    Returns:
        Scores with the part "consistency": the share of sentences whose pairs are all answered right. (The
        part is absent where an example has no identifier.)

    Raises:
        InputError: no example has an answer.
    """
    scores = exact_match([text.rstrip() for text in predictions], references, ignore_case=True)
    sentences = [_sentence(str(reference.meta.get("identifier", ""))) for reference in references]
    if not all(sentences):
        return scores
    is_consistent = dict.fromkeys(sentences, True)
    for sentence, value, reference in zip(sentences, scores.values, references, strict=True):
        if reference.answers and not value:
            is_consistent[sentence] = False
    consistency = sum(is_consistent.values()) / len(is_consistent)
    return scored(scores.values, groups=scores.groups, parts={"consistency": consistency})


def _sentence(identifier: str) -> str:
    """The identifier without its third field."""
    fields = identifier.split("-")
    return "-".join(fields[:2] + fields[3:])


NLVR2_ACCURACY = Metric(
    name="accuracy",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/vqa.py; official: lil-lab/nlvr, "
    "nlvr2/eval/metrics.py",
    paligemma=exact_match,
    official=nlvr2_accuracy,
)
