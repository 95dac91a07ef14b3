import html
from pathlib import Path

import pytest

from paligemma2.data.doctor.doctor import DataReport
from paligemma2.data.doctor.findings import RULES
from paligemma2.jobs.data_check import DataCheckConfig, run
from paligemma2.jobs.data_check_page import data_check_page, data_check_sections, shown_text, verdict
from tests.jobs.broken_data import record, save_broken_data, write_lines


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DataReport:
    folder = tmp_path_factory.mktemp("checked") / "data"
    save_broken_data(folder)
    return run(DataCheckConfig(source=folder))


def test_the_page_holds_every_finding(report: DataReport) -> None:
    page = html.unescape(data_check_page(report, title="Data"))
    for finding in report.findings:
        assert finding.message in page
        assert str(finding.place or "the whole data set") in page
    for reason in report.skipped:
        assert f"skipped: {reason}" in page


def test_the_page_shows_tokens_and_masks(report: DataReport) -> None:
    page = data_check_page(report, title="Data")
    assert page.count("data:image/png;base64") == len(report.examples) > 3
    for example in report.examples:
        for token in example.tokens:
            assert f"<small>{token.id}</small>" in page
    assert page.count('token suffix loss"') > 3
    assert page.count('token suffix cut"') > 10


def test_the_page_needs_nothing_from_outside(report: DataReport) -> None:
    page = data_check_page(report, title="Data")
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_text_of_the_data_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    write_lines(tmp_path / "train.jsonl", [record(f"{evil}.png", f"detect {evil}", f"{evil}\ud800")])
    page = data_check_page(run(DataCheckConfig(source=tmp_path)), title=evil)
    assert evil not in page
    page.encode("utf-8")


def test_the_tables_count_everything(report: DataReport) -> None:
    sections = {section.title: section for section in data_check_sections(report)}
    result = sections["Result"].table
    assert result is not None
    assert {row[1]: row[2] for row in result.rows} == {rule: str(n) for rule, n in report.counts.items()}
    assert [row[0] for row in result.rows] == [RULES[rule].severity for rule in report.counts]
    labels = sections["Labels"].table
    assert labels is not None
    assert ("star", "1", "0") in labels.rows
    assert ("zebra", "0", "1") in labels.rows


def test_the_verdict_counts_rows_and_severities(report: DataReport) -> None:
    line = verdict(report)
    assert line.startswith("14 rows and 7 different pictures checked: ")
    assert f"{report.count('error')} errors, {report.count('warning')} warnings" in line
    assert line.endswith("2 rows skipped")


def test_what_cannot_be_seen_is_made_visible() -> None:
    assert shown_text(" a\n\tb") == "·a⏎⇥b"
