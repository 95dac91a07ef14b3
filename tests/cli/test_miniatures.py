def test_scores_and_the_page_are_told(run, tmp_path):
    ended = run("miniatures", "--output", tmp_path, "--task", "chartqa", "--processes", "1")
    assert ended.code == 0, ended
    assert "chartqa: relaxed accuracy" in ended.out
    assert "1 tasks in " in ended.out
    assert f"open {tmp_path / 'report' / 'report.html'}" in ended.out


def test_a_name_that_is_none_is_an_error(run, tmp_path):
    ended = run("miniatures", "--output", tmp_path, "--task", "nonsense", "--processes", "1")
    assert ended.code == 2, ended
    assert "no task 'nonsense'" in ended.err
