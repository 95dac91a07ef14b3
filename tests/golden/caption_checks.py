"""How the scores of captions compare with the golden files."""

from collections.abc import Mapping

from tests.golden.metric_cases import Check

CHECKS: Mapping[str, Check] = {}
