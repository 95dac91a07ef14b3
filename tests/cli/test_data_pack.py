from pathlib import Path

from tests.cli.conftest import Run
from tests.small_task import write_colours


def test_it_says_what_was_written_and_what_is_missing(run: Run, tmp_path: Path) -> None:
    write_colours(tmp_path / "data", count=4)
    (tmp_path / "data" / "images" / "val_1.png").unlink()
    (tmp_path / "colours.py").write_text("from tests.small_task import small_task\nTASK = small_task()\n")
    words = ("data", "pack", tmp_path / "data", tmp_path / "packed", "--task", tmp_path / "colours.py")
    ended = run(*words)
    assert ended.code == 0
    assert ended.out == f"{tmp_path / 'packed'}: 3 rows written (val 3)\n"
    assert ended.err == "skipped: 1 pictures are not there: val_1.png\n"
    assert run(*words).has_failed_with("already exists")
