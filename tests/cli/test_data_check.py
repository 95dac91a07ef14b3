from pathlib import Path

import pytest

from paligemma2.inference.loading import load
from tests.jobs.broken_data import record, save_broken_data, save_sound_data, write_lines


def test_sound_data_end_with_zero(run, tmp_path):
    ended = run("data", "check", save_sound_data(tmp_path / "data"))
    assert (ended.code, ended.err) == (0, "")
    assert (
        "4 rows and 4 different pictures checked: 0 errors, 0 warnings, 0 notes; 0 rows skipped" in ended.out
    )


def test_errors_end_with_one_and_are_listed_as_compilers_do(run, tmp_path):
    places = save_broken_data(tmp_path / "data")
    ended = run("data", "check", tmp_path / "data")
    lines = ended.out.splitlines()
    assert (ended.code, ended.err) == (1, "")
    for rule, (name, line) in places.items():
        where = f"{tmp_path / 'data' / name}:{line}: "
        assert any(text.startswith(where) and text.endswith(f"[{rule}]") for text in lines), rule


def test_warnings_fail_only_when_strict(run, tmp_path):
    data = save_sound_data(tmp_path / "data")
    twice = [record("0.png", "ocr", "stop")] * 2
    write_lines(data / "_annotations.train.jsonl", [record("1.png", "detect star", "star"), *twice][1:])
    write_lines(data / "_annotations.valid.jsonl", [record("2.png", "ocr", "stop")])
    assert run("data", "check", data).code == 0
    assert run("data", "check", data, "--strict").code == 1


@pytest.mark.parametrize("words", [["nothing-here"], ["--format", "nonsense", "."], [".", "--limit", "-1"]])
def test_bad_input_ends_with_two(run, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert run("data", "check", *words).code == 2


def test_tokens_are_shown_with_their_ids(run, tmp_path):
    out = run("data", "check", save_sound_data(tmp_path / "data"), "--examples", "1").out
    tokenizer = load("tiny", device="cpu").processor.tokenizer
    assert f"image: <image>×64  [{tokenizer.image_id}]" in out
    detect, star = tokenizer.encode("detect star")
    assert f"prefix: <bos>|detect|·star  [{tokenizer.bos_id} {detect} {star}]" in out
    assert "suffix (loss): <loc0100>|<loc0200>|<loc0300>|<loc0400>|·star" in out
    quiet = run("data", "check", tmp_path / "data", "--examples", "0").out
    assert "<bos>" not in quiet


def test_a_long_sequence_is_shortened_in_text(run, tmp_path):
    data = save_sound_data(tmp_path / "data")
    write_lines(data / "_annotations.train.jsonl", [record("0.png", "ocr", "word " * 500)])
    out = run("data", "check", data, "--text-length", "100").out
    assert "more …" in out
    assert max(map(len, out.splitlines())) < 1000
    assert "suffix (loss) (403 cut)" in out  # the end token is predicted only
    assert "[cut-text]" in out


def test_what_is_not_listed_is_counted(run, tmp_path):
    data = save_sound_data(tmp_path / "data")
    write_lines(data / "_annotations.train.jsonl", [record(f"no{i}.png", "ocr", f"{i}") for i in range(7)])
    assert (
        "… and 5 more [missing-image]; --limit 0 lists all" in run("data", "check", data, "--limit", "2").out
    )
    assert "more [missing-image]" not in run("data", "check", data, "--limit", "0").out


def test_the_page_is_written(run, tmp_path):
    data, page = save_sound_data(tmp_path / "data"), tmp_path / "new" / "page.html"
    ended = run("data", "check", data, "--html", page)
    assert (ended.code, ended.err) == (0, f"page: {page}\n")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_page_that_cannot_be_written_is_an_error(run, tmp_path):
    data = save_sound_data(tmp_path / "data")
    assert run("data", "check", data, "--html", tmp_path).has_failed_with("cannot be written", code=1)


def test_tables_are_not_squeezed_where_nobody_sees_a_terminal(run, tmp_path):
    save_broken_data(tmp_path / "data")
    out = run("data", "check", tmp_path / "data").out
    advice = "an object is 4 <loc>, 16 <seg> for a mask, and a label; ' ; ' between them"
    assert any(advice in line and "malformed-answer" in line for line in out.splitlines())
    assert "\x1b" not in out


def test_help_says_how_it_ends(run):
    assert "1 (errors)" in " ".join(run("data", "check", "--help").out.split())


def test_paths_with_odd_letters_are_printed(run, tmp_path: Path):
    data = save_sound_data(tmp_path / "dätä [bold]")
    write_lines(data / "_annotations.train.jsonl", [record("no.png", "ocr", "stop")])
    assert f"{data}/_annotations.train.jsonl:1: error: " in run("data", "check", data).out
