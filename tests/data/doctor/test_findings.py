from pathlib import Path

import pytest

from paligemma2.data.doctor.findings import RULES, SEVERITIES, Findings, Place
from paligemma2.errors import InputError


def test_all_are_counted_and_the_first_are_kept() -> None:
    findings = Findings(limit=2)
    for line in range(5):
        findings.add("missing-image", f"m{line}", Place(Path("a"), line))
    findings.add("duplicate-row", "d")
    assert findings.counts == {"missing-image": 5, "duplicate-row": 1}
    assert [finding.message for finding in findings.kept] == ["m0", "m1", "d"]


def test_no_limit_keeps_all() -> None:
    findings = Findings(limit=0)
    for line in range(500):
        findings.add("missing-image", str(line))
    assert len(findings.kept) == 500


def test_the_worst_come_first_whatever_the_order() -> None:
    findings = Findings(limit=0)
    for rule in reversed(RULES):
        findings.add(rule, "m")
    ranks = [SEVERITIES.index(finding.severity) for finding in findings.kept]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}
    assert list(findings.counts) == list(RULES)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(KeyError):
        Findings(limit=1).add("nonsense", "m")


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(InputError, match="-1"):
        Findings(limit=-1)


def test_a_place_reads_as_compilers_write_it() -> None:
    assert (str(Place(Path("a/b.jsonl"), 3)), str(Place(Path("c.xml")))) == ("a/b.jsonl:3", "c.xml")
