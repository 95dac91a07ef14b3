import pytest

from paligemma2.checkpoint.load import load_model


def test_a_folder_becomes_an_npz_and_back(run, folder, tmp_path):
    there = run("convert", folder, tmp_path / "m.npz", "--dtype", "bfloat16")
    assert (there.code, there.out) == (0, f"{tmp_path / 'm.npz'}: 63 tensors, bfloat16\n")
    assert "6 rows of the vocabulary (<image>, filler) have no place" in there.err
    back = run("convert", tmp_path / "m.npz", tmp_path / "back")
    assert back.code == 0
    assert "written as zeros" in back.err
    assert "has no tokenizer" in back.err
    assert load_model(tmp_path / "back").config == load_model(folder).config


def test_the_tokenizer_travels_with_a_folder(run, folder, tmp_path):
    ended = run("convert", folder, tmp_path / "copy")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "copy" / "tokenizer.json").is_file()


@pytest.mark.parametrize("dtype", ["int8", "nonsense"])
def test_a_dtype_that_cannot_be_stored_is_refused(run, folder, tmp_path, dtype):
    ended = run("convert", folder, tmp_path / "m", "--dtype", dtype)
    assert ended.has_failed_with(f"dtype '{dtype}' cannot be stored"), ended


def test_what_exists_is_replaced_only_when_asked(run, folder, tmp_path):
    (tmp_path / "m.npz").write_text("mine")
    ended = run("convert", folder, tmp_path / "m.npz")
    assert ended.has_failed_with("already exists"), ended
    assert (tmp_path / "m.npz").read_text() == "mine"
    assert run("convert", folder, tmp_path / "m.npz", "--overwrite").code == 0
    assert (tmp_path / "m.npz").stat().st_size > 100_000


def test_an_unknown_source_is_refused(run, tmp_path):
    ended = run("convert", tmp_path / "nowhere", tmp_path / "m")
    assert ended.has_failed_with("no checkpoint at"), ended
