"""Average normalised Levenshtein similarity (Biten et al. 2019, arXiv:1907.00490, equation 1).

1 - distance / length of the longer text, of the answer that is nearest; below one half it is 0.
Implementations differ in what they do to the texts, and at exactly one half:

| | lower case | white space | exactly 0.5 | both empty |
| --- | --- | --- | --- | --- |
| big_vision | as configured; yes on the card | stays | 0 | 1 |
| RRC script (DocVQA, InfographicVQA, ST-VQA) | yes | collapsed, but not for the length | 0.5 | 1 |
| M4C (mmf) | yes | stripped | 0.5 | fails; here 1 |
| pix2struct, DUE | no: `anls` as it is | stays | 0 | fails (pix2struct), 1 (DUE); here 1 |
"""

from collections.abc import Callable, Sequence
from functools import partial

from paligemma2.metrics.scores import Metric, Reference, Scores, answered, scored

_HALF = 0.5


def anls(predictions: Sequence[str], references: Sequence[Reference], *, ignore_case: bool = False) -> Scores:
    """big_vision's similarity (`transfers/vqa.py`); without `ignore_case` also that of pix2struct and DUE.

    Args:
        predictions: what the model wrote.
        references: of each prediction; only `answers` is read. An example without answers is left out.
        ignore_case: compare both sides in lower case.

    Raises:
        InputError: no example has an answer.
    """
    change: Callable[[str], str] = str.lower if ignore_case else str

    def similarity(prediction: str, answer: str) -> float:
        if not answer:
            return float(prediction == "")
        distance = edit_distance(answer, prediction) / max(len(answer), len(prediction))
        return 1 - distance if distance < _HALF else 0.0

    return _best(predictions, references, change, similarity)


def anls_rrc(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The similarity of the Robust Reading Competition's script.

    The distance is between texts in lower case with single spaces, the length that of the texts as they are
    (in capitals: "ß" has two letters).

    Raises:
        InputError: no example has an answer.
    """

    def similarity(prediction: str, answer: str) -> float:
        length = max(len(answer.upper()), len(prediction.upper()))
        if not length:
            return 1.0
        distance = edit_distance(_on_one_line(answer), _on_one_line(prediction))
        return _at_least_half(1 - distance / length)

    return _best(predictions, references, str, similarity)


def anls_m4c(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The similarity of M4C's script (`STVQAANLSEvaluator` of facebookresearch/mmf).

    It divides by zero where both sides are empty; here they are equal and have 1.

    Raises:
        InputError: no example has an answer.
    """

    def similarity(prediction: str, answer: str) -> float:
        length = max(len(answer), len(prediction))
        return _at_least_half(1 - edit_distance(answer, prediction) / length) if length else 1.0

    return _best(predictions, references, lambda text: text.lower().strip(), similarity)


def edit_distance(a: str, b: str) -> int:
    """How many letters must be put in, taken out or exchanged to make one text the other (Levenshtein).

    The columns of the usual table are bits of two numbers (Hyyrö 2003, after Myers 1999), so that a letter of
    the longer text costs a few operations on whole numbers.
    """
    if a == b:
        return 0
    if len(a) > len(b):
        a, b = b, a
    if not a:
        return len(b)
    places: dict[str, int] = {}
    for place, letter in enumerate(a):
        places[letter] = places.get(letter, 0) | 1 << place
    last, every = 1 << len(a) - 1, (1 << len(a)) - 1
    up, down, distance = every, 0, len(a)  # where the value rises or falls by 1 from row to row
    for letter in b:
        equal = places.get(letter, 0)
        same = (((equal & up) + up) ^ up) | equal | down
        rises, falls = down | (every & ~(same | up)), up & same
        distance += bool(rises & last) - bool(falls & last)
        rises, falls = (rises << 1 | 1) & every, falls << 1 & every
        up, down = falls | (every & ~(same | rises)), rises & same
    return distance


def _best(
    predictions: Sequence[str],
    references: Sequence[Reference],
    change: Callable[[str], str],
    similarity: Callable[[str, str], float],
) -> Scores:
    values = []
    for prediction, reference in zip(predictions, references, strict=True):
        text = change(prediction)
        values.append(max((similarity(text, change(answer)) for answer in reference.answers), default=0.0))
    return scored(values, groups=answered(references))


def _on_one_line(text: str) -> str:
    return " ".join(text.strip().lower().split())


def _at_least_half(similarity: float) -> float:
    return similarity if similarity >= _HALF else 0.0


ANLS = Metric(
    name="ANLS",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/vqa.py, in lower case; "
    "official: the RRC script of DocVQA and InfographicVQA (rrc.cvc.uab.es, challenge 17)",
    paligemma=partial(anls, ignore_case=True),
    official=anls_rrc,
)
"""DocVQA, InfographicVQA and ST-VQA."""
