import pytest

from tests.small_results import save_run, small_result


@pytest.fixture
def runs(tmp_path):
    return save_run(tmp_path / "runs" / "colours", small_result()).parent


def test_the_table_is_printed_and_written(run, runs, tmp_path):
    ended = run("report", runs, "--output", tmp_path / "report")
    assert ended.code == 0, ended
    assert ended.out == (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "| Colours (val) | equality |" in ended.out
    assert str(tmp_path / "report" / "report.html") in ended.err


def test_a_folder_without_results_is_an_error_with_a_hint(run, tmp_path):
    ended = run("report", tmp_path, "--output", tmp_path / "report")
    assert ended.has_failed_with("holds no result.json")
