"""ScienceQA (Lu et al. 2022, arXiv:2209.09513): the letter in "The answer is B."."""

import re
from collections.abc import Sequence

from paligemma2.metrics.scores import Metric, Reference, Scores, answered, scored

_LETTER = re.compile(r"the answer is ([a-z])\.")
FAILED = "failed"
"""What stands for the letter of a text that names none."""


def parse_letter(text: str) -> str:
    """The letter, in lower case, that a text beginning with "The answer is B." names; else `FAILED`."""
    found = _LETTER.match(text.lower())
    return found[1] if found else FAILED


def scienceqa_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """1 for each prediction that names the letter of its answer, else 0.

    As in big_vision a prediction and an answer that both name no letter are equal.

    Args:
        predictions: what the model wrote.
        references: of each prediction, with whole answers ("The answer is B."). An example without answers is
            left out.

    Returns:
        Scores with the part "parse_failures": the share of predictions that name no letter.

    Raises:
        InputError: no example has an answer.
    """
    letters = [parse_letter(prediction) for prediction in predictions]
    values = [
        float(letter in map(parse_letter, reference.answers))
        for letter, reference in zip(letters, references, strict=True)
    ]
    groups = answered(references)
    failures = scored([float(letter == FAILED) for letter in letters], groups=groups).value
    return scored(values, groups=groups, parts={"parse_failures": failures})


SCIENCEQA_ACCURACY = Metric(
    name="accuracy",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/science_qa.py",
    paligemma=scienceqa_accuracy,
)
"""There is no official mode: the authors' script guesses at random where it finds no letter."""
