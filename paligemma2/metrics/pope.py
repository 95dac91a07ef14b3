"""POPE (Li et al. 2023, arXiv:2305.10355): is an object in the picture, yes or no."""

from collections.abc import Sequence

from paligemma2.metrics.scores import Metric, Reference, Scores, answered, scored

_NEGATIVE = frozenset({"No", "not", "no"})


def pope_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """big_vision's rule: the prediction in lower case must be the answer, "yes" or "no".

    What is neither is wrong. The parts are those of `pope_first_sentence`, where only "yes" counts as yes,
    and "valid", the share of predictions that are "yes" or "no".

    Raises:
        InputError: no example has an answer.
    """
    lowered = [prediction.lower() for prediction in predictions]
    values = [
        float(prediction in reference.answers)
        for prediction, reference in zip(lowered, references, strict=True)
    ]
    parts = _binary_parts([prediction == "yes" for prediction in lowered], references)
    parts["valid"] = sum(prediction in ("yes", "no") for prediction in lowered) / len(lowered)
    return scored(values, groups=answered(references), parts=parts)


def pope_first_sentence(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The authors' script: a prediction is no if "No", "no" or "not" is a word of its first sentence, else
    yes.

    The sentence ends at the first period, commas are deleted, and words are what stands between spaces: "NO"
    and "no!" are yes. An answer other than "no" is yes.

    Returns:
        Scores with the parts "precision", "recall" and "f1" of yes, "yes_ratio", and the counts
        "true_positives", "false_positives", "true_negatives" and "false_negatives". Where the script divides
        by zero the part is 0.

    Raises:
        InputError: no example has an answer.
    """
    says_yes = [
        _NEGATIVE.isdisjoint(prediction.split(".")[0].replace(",", "").split(" "))
        for prediction in predictions
    ]
    values = [
        float(is_yes == _is_yes(reference)) for is_yes, reference in zip(says_yes, references, strict=True)
    ]
    return scored(values, groups=answered(references), parts=_binary_parts(says_yes, references))


def _is_yes(reference: Reference) -> bool:
    return reference.answers[:1] != ("no",)


def _binary_parts(says_yes: Sequence[bool], references: Sequence[Reference]) -> dict[str, float]:
    pairs = [
        (said, _is_yes(reference))
        for said, reference in zip(says_yes, references, strict=True)
        if reference.answers
    ]
    hits, false_alarms = pairs.count((True, True)), pairs.count((True, False))
    rejections, misses = pairs.count((False, False)), pairs.count((False, True))
    precision, recall = _ratio(hits, hits + false_alarms), _ratio(hits, hits + misses)
    return {
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "yes_ratio": _ratio(hits + false_alarms, len(pairs)),
        "true_positives": float(hits),
        "false_positives": float(false_alarms),
        "true_negatives": float(rejections),
        "false_negatives": float(misses),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


POPE_ACCURACY = Metric(
    name="accuracy",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/pope.py; official: "
    "RUCAIBox/POPE, evaluate.py",
    paligemma=pope_accuracy,
    official=pope_first_sentence,
)
