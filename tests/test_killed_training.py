"""A process that trains is killed at fifty random moments; the benchmark does it two hundred times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "killed_training.py"
KILLS = 50


@pytest.mark.slow
def test_a_run_that_is_killed_fifty_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", str(KILLS), "--json", str(report)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    result = json.loads(report.read_text())
    assert result["kills"] == KILLS
    assert result["during_saves"] >= KILLS // 5
    assert result["without_progress"] < KILLS
