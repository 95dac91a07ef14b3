import json
import signal

import pytest
import torch

from tests.cli.test_processes import start_torchrun, torchrun
from tests.small_model import save_picture
from tests.small_task import write_colours


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    for split in ("train", "valid"):
        lines = []
        for seed in range(4):
            save_picture(folder / f"{split}{seed}.png", seed)
            lines.append(json.dumps({"image": f"{split}{seed}.png", "prefix": "caption en", "suffix": "cat"}))
        (folder / f"_annotations.{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_model_is_taught_scored_and_written(run, folder, data, tmp_path):
    new = tmp_path / "new"
    words = ("--steps", 2, "--batch-size", 2, "--num-workers", 0)
    ended = run("transfer", "--model", folder, "--data", data, "--output", new, *words)
    assert ended.code == 0, ended
    assert "exact match, 4 held-out examples" in ended.out
    assert "before" in ended.out
    assert "transfer: step 2/2  loss" in ended.err
    assert "examples/s" in ended.err
    assert run("predict", "--model", new, data / "train0.png", "--max-new-tokens", 2).code == 0


def test_data_that_is_not_there_is_refused(run, folder, tmp_path):
    words = ("--data", tmp_path / "nowhere", "--output", tmp_path / "new")
    ended = run("transfer", "--model", folder, *words)
    assert ended.has_failed_with("nowhere does not exist"), ended


def test_an_output_that_exists_is_refused(run, folder, data):
    ended = run("transfer", "--model", folder, "--data", data, "--output", data)
    assert ended.has_failed_with("exists"), ended


def test_several_data_sets_with_weights_are_a_mixture(run, folder, data, tmp_path):
    words = ("--steps", 1, "--batch-size", 2, "--num-workers", 0, "--output", tmp_path / "new")
    ended = run("transfer", "--model", folder, "--data", f"{data}=2", "--data", data, *words)
    assert ended.code == 0, ended
    record = json.loads((tmp_path / "new" / "transfer.json").read_text())
    assert [source["weight"] for source in record["transfer"]["data"]] == [2.0, 1.0]


def test_what_cannot_be_used_ends_the_run_or_is_counted(run, folder, data, tmp_path):
    with (data / "_annotations.train.jsonl").open("a") as file:
        file.write('\n{"image": "gone.png", "suffix": "x"}\n')
    words = ("--steps", 1, "--batch-size", 2, "--num-workers", 0, "--output", tmp_path / "new")
    ended = run("transfer", "--model", folder, "--data", data, *words)
    assert ended.has_failed_with("the picture is missing (gone.png)"), ended
    assert "--faults skip" in ended.err
    ended = run("transfer", "--model", folder, "--data", data, "--faults", "skip", *words)
    assert ended.code == 0, ended
    assert "1 × the picture is missing" in ended.err
    ended = run("transfer", "--model", folder, "--data", data, "--faults", "ignore", *words)
    assert ended.has_failed_with("faults is 'ignore'"), ended


def test_several_seeds_are_run_and_their_mean_is_printed(run, folder, data, tmp_path):
    new = tmp_path / "new"
    words = ("--steps", 1, "--batch-size", 2, "--num-workers", 0, "--seed", 3, "--seeds", 2)
    ended = run("transfer", "--model", folder, "--data", data, "--output", new, *words)
    assert ended.code == 0, ended
    header, row = ended.out.splitlines()
    assert header.split() == ["before", "seed", "3", "seed", "4", "mean", "exact", "match", "deviation"]
    assert len(row.split()) == 5
    assert "its weights are kept, those of all others removed (--keep all keeps them)" in ended.err
    assert len(list(new.glob("*/model.safetensors"))) == 1


def test_the_models_of_all_seeds_are_kept_if_asked_to(run, folder, data, tmp_path):
    new = tmp_path / "new"
    words = ("--steps", 1, "--batch-size", 2, "--num-workers", 0, "--seeds", 2, "--keep", "all")
    ended = run("transfer", "--model", folder, "--data", data, "--output", new, *words)
    assert ended.code == 0, ended
    assert len(list(new.glob("*/model.safetensors"))) == 2


def test_a_tracker_that_is_unknown_is_refused(run, folder, data, tmp_path):
    words = ("--output", tmp_path / "new", "--track", "paper")
    ended = run("transfer", "--model", folder, "--data", data, *words)
    assert ended.has_failed_with("tracking.tool is 'paper'"), ended


def test_a_plan_tells_what_is_needed_and_does_nothing(run, folder, data, tmp_path):
    ended = run("transfer", "--model", folder, "--data", data, "--output", tmp_path / "new", "--plan")
    assert ended.code == 0, ended
    assert "memory" in ended.out
    assert "on each of 1 cpu" in ended.out
    assert "training.freeze=image" in ended.out
    assert not (tmp_path / "new.run").exists()


def test_devices_are_for_a_plan_alone(run, folder, data, tmp_path):
    ended = run("transfer", "--model", folder, "--data", data, "--output", tmp_path / "new", "--devices", 2)
    assert ended.has_failed_with("--devices is for --plan"), ended


def test_the_second_of_several_processes_is_told_how_they_share(run, folder, data, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    ended = run("transfer", "--model", folder, "--data", data, "--output", tmp_path / "new")
    assert ended.has_failed_with("one transfer was started in several processes"), ended
    assert "add --sharded" in ended.err


def test_runs_of_several_seeds_are_not_shared(run, folder, data, tmp_path):
    words = ("--output", tmp_path / "new", "--seeds", 2, "--sharded")
    ended = run("transfer", "--model", folder, "--data", data, *words)
    assert ended.has_failed_with("several runs are sharded"), ended


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the processes would want a GPU each")
def test_two_processes_write_one_model_and_speak_once(run, folder, data, tmp_path):
    words = ("transfer", "--model", folder, "--data", data, "--steps", 2, "--batch-size", 2)
    words += ("--num-workers", 0, "--set", "training.precision=float32")
    alone = run(*words, "--output", tmp_path / "one")
    ended = torchrun("-m", "paligemma2", *words, "--output", tmp_path / "two", "--sharded")
    assert ended.returncode == 0, ended.stderr
    printed, expected = (
        "".join(text.split()) for text in (ended.stdout, alone.out)
    )  # long paths are wrapped
    assert printed == expected.replace(str(tmp_path / "one"), str(tmp_path / "two"))
    assert ended.stderr.count("transfer: step 2/2  loss") == 1
    ended = run("predict", "--model", tmp_path / "two", data / "train0.png", "--max-new-tokens", 2)
    assert ended.code == 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the processes would want a GPU each")
def test_a_signal_to_torchrun_saves_and_stops_both(folder, data, tmp_path):
    words = ("--model", folder, "--data", data, "--steps", 5000, "--batch-size", 2, "--num-workers", 0)
    process = start_torchrun(
        "-m", "paligemma2", "transfer", *words, "--output", tmp_path / "new", "--sharded"
    )
    with process:
        try:
            for line in process.stderr:
                if "step 10/" in line:
                    break
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        finally:
            process.kill()
    assert rest.count("stopped at step") == 1
    assert list((tmp_path / "new.run").glob("step-*"))
    assert not (tmp_path / "new").exists()


def test_a_benchmark_is_trained_on_with_its_recipe_and_metric(run, tmp_path):
    write_colours(tmp_path / "data")
    task = tmp_path / "colours.py"
    task.write_text("from tests.small_task import small_task\nTASK = small_task()\n")
    words = ("--task", task, "--data", tmp_path / "data", "--num-workers", 0)
    ended = run("transfer", *words, "--output", tmp_path / "new")
    assert ended.code == 0, ended
    assert "recipe colours: 3 updates of 4 from 6 examples, 6 held out" in ended.err
    assert "equality, 6 held-out examples" in ended.out
    planned = run("transfer", *words, "--output", tmp_path / "other", "--plan")
    assert "3 of 4 from 6 examples" in planned.out
    wrong = run("transfer", "--task", "nothing", "--data", tmp_path, "--output", tmp_path / "other")
    assert wrong.has_failed_with("there is no task 'nothing'")
