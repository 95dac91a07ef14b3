"""Where the shared material lies, and the rule that a golden test may not be skipped where it must run.

`shared`, `golden_model` and `golden_metrics` give folders. A test that uses one counts as `golden`. Where the
environment names the material (by one of `VARIABLES`), a skipped golden test is a failure.
"""

import os

os.environ["OMP_NUM_THREADS"] = (
    "1"  # read when torch is imported: one thread per worker, and the same bits each run
)

from collections.abc import Generator
from pathlib import Path

import pytest

SHARED_VARIABLE = "PALIGEMMA2_SHARED"
GOLDEN_MODEL_VARIABLE = "PALIGEMMA2_GOLDEN_MODEL"
GOLDEN_METRICS_VARIABLE = "PALIGEMMA2_GOLDEN"
VARIABLES = (SHARED_VARIABLE, GOLDEN_MODEL_VARIABLE, GOLDEN_METRICS_VARIABLE)
PROJECT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """The folder of shared material, whether it exists or not."""
    return Path(os.environ.get(SHARED_VARIABLE) or PROJECT.parent / "shared")


def golden_model_folder() -> Path:
    """The folder of the golden model, whether it exists or not."""
    return Path(os.environ.get(GOLDEN_MODEL_VARIABLE) or shared_folder() / "golden" / "model")


def golden_metrics_folder() -> Path:
    """The folder of golden scores, whether it exists or not."""
    return Path(os.environ.get(GOLDEN_METRICS_VARIABLE) or shared_folder() / "golden" / "metrics")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material; the test is skipped where it is absent."""
    return existing(shared_folder(), SHARED_VARIABLE)


@pytest.fixture(scope="session")
def golden_model() -> Path:
    """The folder of the golden model; the test is skipped where it is absent."""
    return existing(golden_model_folder(), GOLDEN_MODEL_VARIABLE)


@pytest.fixture(scope="session")
def golden_metrics() -> Path:
    """The folder of golden scores; the test is skipped where it is absent."""
    return existing(golden_metrics_folder(), GOLDEN_METRICS_VARIABLE)


def existing(folder: Path, variable: str) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist (set {variable} to the folder)")
    return folder


def must_run_golden() -> bool:
    return any(os.environ.get(name) for name in VARIABLES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what reads the shared material as golden, and let its reports say so (also across xdist)."""
    for item in items:
        if {"shared", "golden_model", "golden_metrics"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("golden")
        if item.get_closest_marker("golden"):
            item.user_properties.append(("golden", True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if is_golden(report) and report.skipped and not hasattr(report, "wasxfail"):
        forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole file that skips itself (`importorskip`) must not hide golden tests either."""
    report = yield
    if (
        report.skipped
        and isinstance(collector, pytest.Module)
        and "golden" in collector.path.read_text("utf-8")
    ):
        forbid_skip(report)
    return report


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if must_run_golden():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"A golden test was skipped where it must run: {reason}"


def is_golden(report: pytest.TestReport) -> bool:
    return ("golden", True) in map(tuple, report.user_properties)  # xdist turns pairs into lists


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])]
    ran = sum(1 for report in reports if getattr(report, "when", "") == "call" and is_golden(report))
    terminalreporter.write_line(f"golden cases run: {ran}")
