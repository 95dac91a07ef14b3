from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import ConfigError, DataError
from paligemma2.jobs import evaluate
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.jobs.report import ReportConfig, run
from tests.small_results import save_run, small_result
from tests.small_task import write_colours

TASK = """
from tests.small_results import task_with

TASK = task_with()
"""


def test_three_files_are_written_and_replaced(tmp_path: Path) -> None:
    runs = save_run(tmp_path / "runs" / "colours", small_result()).parent
    config = ReportConfig(runs=(runs,), output=tmp_path / "report")
    assert [row.title for row in run(config).rows] == ["Colours (val)"]
    save_run(tmp_path / "runs" / "colours", small_result(column="224-10B"))
    run(config)
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "report").iterdir()}
    assert sorted(files) == ["report.csv", "report.html", "report.md"]
    assert all("224-10B" in text and "Colours (val)" in text for text in files.values())


@pytest.mark.parametrize("name", ["mine", "path"])
def test_a_task_of_ones_own_gives_its_numbers(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TASK, encoding="utf-8")
    runs = save_run(tmp_path / "runs", small_result(task=str(file) if name == "path" else name))
    config = ReportConfig(runs=(runs,), output=tmp_path / "report", task_files=(file,))
    (number,) = run(config).numbers
    assert number.published == 68.0


def test_a_file_that_a_result_names_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    runs = save_run(tmp_path / "runs", small_result(task=str(tmp_path / "evil.py")))
    (number,) = run(ReportConfig(runs=(runs,), output=tmp_path / "report")).numbers
    assert number.published is None
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_reported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no runs"):
        ReportConfig(runs=(), output=tmp_path)
    with pytest.raises(ConfigError, match="num_samples is -1"):
        ReportConfig(runs=(tmp_path,), output=tmp_path, num_samples=-1)
    with pytest.raises(DataError, match=r"holds no result\.json"):
        run(ReportConfig(runs=(tmp_path,), output=tmp_path / "report"))


def test_an_evaluation_and_its_control_end_in_a_report(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TASK, encoding="utf-8")
    write_colours(tmp_path / "data", count=6)
    given = EvaluateConfig(
        models=("tiny",), tasks=(str(file),), data=tmp_path / "data", output=tmp_path / "runs", batch_size=6
    )
    evaluate.run(given)
    evaluate.run(replace(given, control="shuffled pictures", output=tmp_path / "controls"))
    table = run(
        ReportConfig(
            runs=(tmp_path / "runs", tmp_path / "controls"),
            output=tmp_path / "report",
            task_files=(file,),
        )
    )
    (number,) = table.numbers
    assert [control.name for control in number.controls] == ["shuffled pictures"]
    assert number.notes == ()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 6
    assert "what color is the picture?" in page
