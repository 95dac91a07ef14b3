"""Counts: TallyQA and CountBenchQA."""

from collections.abc import Sequence

from paligemma2.metrics.scores import Metric, Reference, Scores, answered, part_scores, scored

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_DIGITS = {word: str(number) for number, word in enumerate(_WORDS.split())} | {"none": "0"}
_KINDS = {0: "complex", 1: "simple"}


def number_match(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """1 for each prediction that equals its answer, where number words up to twenty are their digits.

    A text is a number word only as a whole: " three" and "twenty one" stay as they are, and so does "3.0".

    Args:
        predictions: what the model wrote.
        references: of each prediction. `meta` may have `issimple`, 1 or 0 (TallyQA's test questions; anything
            else is neither). An example without answers is left out.

    Returns:
        Scores whose parts are the accuracies of "simple", of "complex", and of each right answer as
        "count_3". (big_vision fails where that is above 15.)

    Raises:
        InputError: no example has an answer.
    """
    values = [
        float(_in_digits(prediction) in map(_in_digits, reference.answers))
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    kinds = [
        _KINDS.get(reference.meta.get("issimple", -1), "") if reference.answers else ""
        for reference in references
    ]
    counts = [
        f"count_{_in_digits(reference.answers[0])}" if reference.answers else "" for reference in references
    ]
    return scored(
        values,
        groups=answered(references),
        parts=part_scores(values, kinds) | part_scores(values, counts),
    )


def _in_digits(text: str) -> str:
    return _DIGITS.get(text.lower(), text)


NUMBER_MATCH = Metric(
    name="accuracy",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/tallyqa.py; "
    "TallyQA has no script",
    paligemma=number_match,
)
