import json
import math
import struct
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from paligemma2.errors import ConfigError, MissingExtra
from paligemma2.training.tracking import TrackingSettings, open_tracker, require_tracker, tracked


class Recorder:
    """A tracker that remembers, and may fail."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.fails_at = fails_at
        self.is_finished = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        sys.stdout.write("greetings")
        if step == self.fails_at:
            raise ConnectionError("the server is gone")
        self.lines.append((step, dict(values)))

    def finish(self) -> None:
        self.is_finished = True


def test_numbers_reach_the_tracker_which_is_finished_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    recorder, warned = Recorder(), list[str]()
    with tracked(lambda: recorder, warned.append) as tracker:
        tracker.log(10, {"train/loss": 0.5})
        assert not recorder.is_finished
    assert recorder.lines == [(10, {"train/loss": 0.5})]
    assert recorder.is_finished
    assert warned == []
    assert capsys.readouterr().out == ""


def test_a_tracker_that_fails_is_warned_of_once_and_left_alone() -> None:
    recorder, warned = Recorder(fails_at=20), list[str]()
    with tracked(lambda: recorder, warned.append) as tracker:
        for step in (10, 20, 30):
            tracker.log(step, {"train/loss": 0.5})
    assert [step for step, _ in recorder.lines] == [10]
    assert warned == ["tracking failed, and is off from here on: ConnectionError: the server is gone"]
    assert not recorder.is_finished


def test_a_tracker_that_cannot_be_opened_is_warned_of_once() -> None:
    def refuse() -> Recorder:
        raise OSError("no network")

    warned: list[str] = []
    with tracked(refuse, warned.append) as tracker:
        tracker.log(10, {"train/loss": 0.5})
    assert warned == ["tracking failed, and is off from here on: OSError: no network"]


def test_a_tracker_is_finished_when_the_run_fails() -> None:
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError), tracked(lambda: recorder, print):
        _ = 1 / 0
    assert recorder.is_finished


def test_without_a_tracker_nothing_happens() -> None:
    with tracked(None, pytest.fail) as tracker:
        tracker.log(1, {"train/loss": 0.5})


def test_an_unknown_tool_is_refused() -> None:
    with pytest.raises(ConfigError, match="use one of trackio, wandb, tensorboard"):
        TrackingSettings(tool="mlflow")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tool", "hint"),
    [
        ("trackio", r"pip install 'paligemma2\[track\]'"),
        ("wandb", "pip install wandb"),
        ("tensorboard", "pip install tensorboard"),
    ],
)
def test_a_tool_that_is_not_installed_is_told_how_to_get(
    monkeypatch: pytest.MonkeyPatch, tool: str, hint: str
) -> None:
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(MissingExtra, match=hint):
        require_tracker(tool)  # type: ignore[arg-type]


def log_twice(open_it: Callable[[], object]) -> None:
    """A run that is stopped after its first line, and goes on; a loss that is no number is no obstacle."""
    for step, loss in ((10, 0.5), (20, math.nan)):
        with tracked(open_it, pytest.fail) as tracker:  # type: ignore[arg-type]
            tracker.log(step, {"train/loss": loss, "train/grad_norm": 2.0})


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    settings = TrackingSettings(tool="tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        log_twice(lambda: open_tracker(settings, name="new", folder=tmp_path, record={"steps": 3}))
    files = sorted((tmp_path / "tensorboard").iterdir())
    found = b"".join(file.read_bytes() for file in files)
    assert found.count(b"train/loss") == found.count(b"train/grad_norm") == 2
    assert struct.pack("<f", 0.5) in found
    assert b'"steps": 3' in found


@pytest.mark.filterwarnings("ignore")
def test_trackio_gets_the_numbers_of_a_run_that_goes_on_as_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trackio = pytest.importorskip("trackio", reason="trackio is not installed")
    settings = TrackingSettings(project="test-of-paligemma2")
    log_twice(lambda: open_tracker(settings, name="new", folder=tmp_path, record={"steps": 3}))
    (run,) = trackio.Api().runs("test-of-paligemma2")
    assert run.name == json.loads((tmp_path / "tracking.json").read_text())["run"]
    assert run.name.startswith("new-")
    assert run.config["steps"] == 3
    storage = pytest.importorskip("trackio.sqlite_storage", reason="trackio keeps its data otherwise now")
    lines = storage.SQLiteStorage.get_metric_values("test-of-paligemma2", run.name, "train/grad_norm")
    assert [(line["step"], line["value"]) for line in lines] == [(10, 2.0), (20, 2.0)]


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_gets_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = TrackingSettings(tool="wandb")
    log_twice(lambda: open_tracker(settings, name="new", folder=tmp_path, record={"steps": 3}))
    name = json.loads((tmp_path / "tracking.json").read_text())["run"]
    files = tmp_path.glob(f"wandb/offline-run-*/run-{name}.wandb")
    assert b"train/grad_norm" in b"".join(file.read_bytes() for file in files)
