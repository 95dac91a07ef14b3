"""How the scores of captions compare with the golden files."""

from collections.abc import Mapping

from paligemma2.metrics.ptb_tokenizer import tokenize
from tests.golden.metric_cases import Check, GoldenFile


def ptb_tokenizer(file: GoldenFile) -> None:
    for case in file.cases:
        case.check("expected", tokenize([case["caption"]])[0])


CHECKS: Mapping[str, Check] = {"ptb_tokenizer": ptb_tokenizer}
