def test_a_miniature_is_made_and_counted(run, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from tests.small_task import small_task\nTASK = small_task(miniature='count')\n")
    ended = run("data", "make", file, "--output", tmp_path / "new", "--examples", "3", "--seed", "5")
    assert ended.code == 0, ended
    assert f"{tmp_path / 'new'}: mine (train 3, val 3)" in ended.out
    assert "drawing:" in ended.err
    assert (tmp_path / "new" / "val.json").is_file()


def test_a_name_that_is_none_is_an_error(run, tmp_path):
    ended = run("data", "make", "nonsense", "--output", tmp_path / "new")
    assert ended.has_failed_with("no task 'nonsense'"), ended
