import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from paligemma2.errors import InputError, MissingExtra
from paligemma2.inference.loading import load
from paligemma2.jobs.bulk import BulkConfig, BulkSettings, job_of, run
from paligemma2.jobs.bulk_asking import PromptAsker
from paligemma2.jobs.bulk_output import BulkOutput
from paligemma2.jobs.bulk_sources import find_sources
from tests.jobs.small_shards import QUESTION, picture, write_data
from tests.small_model import save_small_model

PROJECT = Path(__file__).parents[2]
NUM_ROWS = 25
PROBLEMS = {"a.tar#10", "a.tar#11", "more/c.parquet#3", "more/c.parquet#9"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("bulk") / "model")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def start(words: Sequence[object], home: Path) -> subprocess.Popen[str]:
    """In a session of its own; Ray keeps its token in the home folder."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def succeed(words: Sequence[object], home: Path) -> tuple[str, str]:
    process = start(words, home)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-4000:]
    return out, err


def assert_each_row_is_answered_once(output: Path, model: Path) -> None:
    """As the model answers it by itself, without Ray."""
    results = BulkOutput(str(output))
    predictions = list(results.predictions())
    assert sorted(each.id for each in predictions) == sorted(f"row {number}" for number in range(NUM_ROWS))
    assert len({each.source for each in predictions}) == NUM_ROWS
    assert sorted(problem.source for problem in results.problems()) == sorted(PROBLEMS)
    alone = load(model)
    for each in predictions:
        number = int(each.id.removeprefix("row "))
        (answer,) = alone.generate(picture(number), f"answer en {QUESTION}", 4)
        assert each.prediction == answer.text
        assert each.log_prob == pytest.approx(math.fsum(answer.log_probs), abs=1e-4)
    assert not (output / "_partial").exists()


@pytest.mark.slow
def test_of_two_workers_one_is_killed_and_nothing_is_lost_or_repeated(
    model: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    output = tmp_path / "out"
    out, _ = succeed(["-m", "tests.jobs.bulk_with_a_death", model, data, output], tmp_path)
    ended = json.loads(out.splitlines()[-1])
    assert_each_row_is_answered_once(output, model)
    assert ended["report"] == {
        "output": output.as_uri(),
        "num_predictions": NUM_ROWS,
        "num_problems": len(PROBLEMS),
        "num_units": len(ended["done"]),
        "num_found": 0,
    }
    processes = {each["process"] for each in ended["done"]}
    assert len(processes) == 3, "the two workers, and one in the place of the killed one"
    assert len({each["unit"] for each in ended["done"]}) == len(ended["done"]) == 15


@pytest.mark.slow
def test_a_job_that_is_killed_goes_on_where_it_was(model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    output = tmp_path / "out"
    words = ["-m", "paligemma2", "bulk", "--model", model, "--data", data, "--output", output]
    words += ["--prompt", "answer en {question}", "--max-new-tokens", 4, "--rows-per-unit", 2]
    parts = output / "predictions"
    process = start(words, tmp_path)
    while not (parts.is_dir() and len(list(parts.iterdir())) >= 3):
        assert process.poll() is None, process.communicate()[1][-4000:]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(1)  # until its workers have noticed
    before = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert 3 <= len(before) < 15
    _, err = succeed(words, tmp_path)
    assert f"note: {len(before)} of 15 parts were there from an earlier start" in err
    assert f"{len(PROBLEMS)} rows have no answer" in err
    assert_each_row_is_answered_once(output, model)
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}.items()


def config(folder: Path, results: Path, **more: object) -> BulkConfig:
    given = {"asker": PromptAsker(prompt="caption en"), "data": str(folder), "output": str(results)}
    return BulkConfig(**{**given, **more})  # type: ignore[arg-type]


def test_without_ray_the_extra_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # Python takes it for not installed
    with pytest.raises(MissingExtra, match=re.escape("pip install 'paligemma2[ray]'")):
        run(config(data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_address_without_a_cluster_is_told_at_once(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["-m", "paligemma2", "bulk", "--data", data, "--output", tmp_path / "out", "--prompt", "ocr"]
        process = start([*words, "--address", address], tmp_path)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"error: there is no Ray cluster at '{address}'" in err


def test_settings_are_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers is 0"):
        BulkSettings(workers=0)
    with pytest.raises(InputError, match="rows_per_unit is 0"):
        BulkSettings(rows_per_unit=0)
    with pytest.raises(InputError, match="in the memory of this process"):
        config(tmp_path, tmp_path, output="memory://x")


def test_a_job_goes_on_with_other_batches_but_not_with_another_prompt(data: Path, tmp_path: Path) -> None:
    sources = find_sources(str(data))
    job = job_of(config(data, tmp_path), sources)
    assert job == job_of(
        config(
            data,
            tmp_path,
            settings=BulkSettings(workers=3),
            asker=PromptAsker(prompt="caption en", batch_size=1),
        ),
        sources,
    )
    assert job != job_of(config(data, tmp_path, asker=PromptAsker(prompt="caption de")), sources)
    assert job != job_of(config(data, tmp_path, settings=BulkSettings(rows_per_unit=7)), sources)
    assert job != job_of(config(data, tmp_path), sources[1:])
