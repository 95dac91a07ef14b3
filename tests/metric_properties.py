"""What holds of every score of answers, whatever the model wrote."""

import random
from collections.abc import Sequence

from hypothesis import strategies as st

from paligemma2.metrics.scores import MODES, Metric, Reference

# Few letters, so that texts are often equal; signs and spaces that the rules treat in a special way.
TEXTS = st.text(alphabet="aAtheno1,.'?% \n\tİß", max_size=8) | st.sampled_from(
    ["yes", "no", "two", "don't", "dont", "1,000", "50%", "nan", "", "None", "The answer is B."]
)
ANSWERS = st.lists(TEXTS, min_size=1, max_size=11)
PAIRS = st.lists(st.tuples(TEXTS, ANSWERS), min_size=1, max_size=6)


def check_scores(metric: Metric, predictions: Sequence[str], references: Sequence[Reference]) -> None:
    """From 0 to 1, one for each example, and the same in any order of the examples."""
    order = list(range(len(predictions)))
    random.Random(0).shuffle(order)
    for mode in MODES:
        scores = metric(predictions, references, mode)
        assert len(scores.values) == len(predictions)
        assert all(0 <= value <= 1 for value in (scores.value, *scores.values))
        again = metric([predictions[i] for i in order], [references[i] for i in order], mode)
        assert again.value == scores.value
        assert list(again.values) == [scores.values[i] for i in order]


def check_pairs(metric: Metric, pairs: Sequence[tuple[str, Sequence[str]]]) -> None:
    check_scores(
        metric, [text for text, _ in pairs], [Reference(answers=tuple(answers)) for _, answers in pairs]
    )
