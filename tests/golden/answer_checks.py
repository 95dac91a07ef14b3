"""How the scores of answers compare with the golden files."""

from collections.abc import Mapping

from paligemma2.metrics.answers import exact_match
from tests.golden.metric_cases import Check, GoldenFile


def aokvqa_mc(file: GoldenFile) -> None:
    for case in file.cases:
        right = case["choices"][case["correct_choice_idx"]]
        case.check("expected_percent", 100 * exact_match([case["prediction"]], [right]).value)


CHECKS: Mapping[str, Check] = {"aokvqa_mc": aokvqa_mc}
