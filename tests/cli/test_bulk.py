from pathlib import Path

from tests.cli.conftest import Run
from tests.jobs.small_shards import sound_members, write_shard

# What it writes is tested with a cluster: tests/jobs/test_bulk.py.


def test_folders_and_a_prompt_are_needed(run: Run, tmp_path: Path) -> None:
    assert run("bulk", "--data", tmp_path, "--output", tmp_path / "out").has_failed_with("--prompt")
    ended = run("bulk", "--data", tmp_path, "--output", tmp_path / "out", "--prompt", "answer {question")
    assert ended.has_failed_with("cannot be filled in")
    ended = run("bulk", "--data", "memory://a", "--output", tmp_path / "out", "--prompt", "caption en")
    assert ended.has_failed_with("in the memory of this process")


def test_settings_are_those_of_predict(run: Run, tmp_path: Path) -> None:
    write_shard(tmp_path / "x.tar", sound_members(0, 1))
    words = ("bulk", "--data", tmp_path, "--output", tmp_path / "out", "--prompt", "caption en")
    assert run(*words, "--set", "metod=beam").has_failed_with("metod")
    assert run(*words, "--set", "top_p=2").has_failed_with("top_p")
    assert not (tmp_path / "out").exists()


def test_data_that_are_not_there_are_told(run: Run, tmp_path: Path) -> None:
    words = ("bulk", "--data", tmp_path / "no", "--output", tmp_path / "out", "--prompt", "caption en")
    assert run(*words).has_failed_with(f"{tmp_path / 'no'} holds no .parquet or .tar file")
    assert not (tmp_path / "out").exists()
