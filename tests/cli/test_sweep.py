import json

import pytest

from tests.small_transfer import write_rows


@pytest.fixture
def words(folder, tmp_path):
    data, output = write_rows(tmp_path / "data"), tmp_path / "sweep"
    small = ("--set", "training.batch_size=2", "--set", "evaluation.max_new_tokens=4", "--num-workers", 0)
    return ("sweep", "--model", folder, "--data", data, "--output", output, *small)


def test_the_learning_rates_of_the_paper_are_compared(run, words, tmp_path):
    ended = run(*words, "--steps", 1)
    assert ended.code == 0, ended
    header, *rows = ended.out.splitlines()
    assert header.split() == ["learning_rate", "before", "exact", "match"]
    assert {row.split()[0] for row in rows} == {
        *("3e-07", "6e-07", "1e-06", "3e-06", "6e-06", "1e-05", "3e-05"),
    }
    assert "sweep.md, with the report of each run" in ended.err
    assert "those of all others removed (--keep all keeps them)" in ended.err
    assert len(list((tmp_path / "sweep").glob("*/model.safetensors"))) == 1


def test_a_grid_with_seeds_keeps_what_it_is_asked_to(run, words, tmp_path):
    grid = ("--grid", "training.dropout=0,0.1", "--seeds", 2, "--keep", "all")
    ended = run(*words, "--steps", 1, *grid)
    assert ended.code == 0, ended
    names = {path.parent.name for path in (tmp_path / "sweep").glob("*/model.safetensors")}
    assert names == {f"dropout-{rate}_seed-{seed}" for rate in ("0", "0.1") for seed in (0, 1)}
    assert "removed" not in ended.err


def test_runs_that_fail_make_the_exit_code_one_after_the_table(run, words, tmp_path):
    ended = run(*words, "--steps", 12, "--grid", "training.learning_rate=1e30,1e-5")
    assert ended.code == 1
    assert [line.split()[0] for line in ended.out.splitlines()] == ["learning_rate", "1e-5", "1e30"]
    assert "error: 1 of 2 runs failed (learning-rate-1e+30: " in ended.err
    assert "the same command tries them again" in ended.err
    assert len(json.loads((tmp_path / "sweep" / "sweep.json").read_text())["rows"]) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--grid", "training.dropout"), "has no values"),
        (("--grid", "training.dropou=1"), "there is no setting"),
        (("--keep", "some"), "keep is 'some'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_run(run, words, more, message, tmp_path):
    ended = run(*words, *more)
    assert ended.has_failed_with(message), ended
    assert not (tmp_path / "sweep").exists()
