from paligemma2.cli.data_convert import _FORMATS
from paligemma2.data.registry import FORMATS
from tests.data.small_data import object_rows, read_sound, write_rows


def test_a_data_set_is_converted_and_counted(run, tmp_path):
    write_rows("coco", tmp_path / "coco", object_rows(tmp_path / "pictures"))
    ended = run("data", "convert", tmp_path / "coco", tmp_path / "new", "--to", "jsonl")
    assert ended.code == 0, ended
    assert "6 rows read from coco, 5 written (test 2, train 1, valid 2), 1 skipped" in ended.out
    assert "skipped: 1 × the row has no objects" in ended.err
    assert len(read_sound("jsonl", tmp_path / "new")) == 5


def test_the_format_the_split_and_the_task_can_be_named(run, tmp_path):
    write_rows("coco", tmp_path / "coco", object_rows(tmp_path / "pictures"))
    words = ("--to", "yolo", "--from", "coco", "--split", "valid", "--task", "detect")
    ended = run("data", "convert", tmp_path / "coco", tmp_path / "new", *words)
    assert ended.code == 0, ended
    assert {row.split for row in read_sound("yolo", tmp_path / "new")} == {"valid"}


def test_a_wrong_word_is_an_error(run, tmp_path):
    write_rows("coco", tmp_path / "coco", object_rows(tmp_path / "pictures"))
    ended = run("data", "convert", tmp_path / "coco", tmp_path / "new", "--to", "coke")
    assert ended.has_failed_with("'coke' is not a format"), ended
    ended = run("data", "convert", tmp_path / "nowhere", tmp_path / "new", "--to", "coco")
    assert ended.has_failed_with("nowhere does not exist"), ended


def test_the_help_names_every_format():
    for name in FORMATS:
        assert name in _FORMATS
