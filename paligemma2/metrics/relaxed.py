"""Relaxed accuracy of ChartQA (Masry et al. 2022, arXiv:2203.10244, section 5.1)."""

from collections.abc import Sequence

from paligemma2.metrics.exact import exact_match
from paligemma2.metrics.scores import Metric, Reference, Scores, answered, scored

_TOLERANCE = 0.05


def relaxed_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """1 for each number within 5 % of the right one, and for each other text that equals it in lower case.

    Both must be numbers for Python's `float`, after "%" at the end as hundredths: "1,000" is text, "1_000"
    and "nan" are numbers, and no number is near to `nan` or infinity. To zero only the same text is equal.

    Args:
        predictions: what the model wrote.
        references: of each prediction; only `answers` is read. An example without answers is left out.

    Returns:
        Scores with the part "exact": the share of predictions that equal an answer in lower case.

    Raises:
        InputError: no example has an answer.
    """
    values = [
        float(any(_is_near(prediction.lower(), answer.lower()) for answer in reference.answers))
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    exact = exact_match(predictions, references, ignore_case=True)
    return scored(values, groups=answered(references), parts={"exact": exact.value})


def _is_near(prediction: str, target: str) -> bool:
    predicted, wanted = _number(prediction), _number(target)
    if predicted is None or not wanted:
        return prediction == target
    return abs(predicted - wanted) / abs(wanted) <= _TOLERANCE


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


RELAXED_ACCURACY = Metric(
    name="relaxed accuracy",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/chartqa.py; "
    "google-research/pix2struct, metrics.py, decides the same",
    paligemma=relaxed_accuracy,
)
