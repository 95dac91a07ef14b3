"""Signals to a real process that trains."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paligemma2.training.checkpointing import load_newest_state
from paligemma2.training.recipe import OptimizerName
from tests.training import toy_run
from tests.training.toy_run import Stopped, assert_equal_states, log_of, run, toy_recipe

# Of the loader's processes, on Python 3.12 and later.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
SCRIPT = Path(toy_run.__file__)


def start(*arguments: str, group: bool = False) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=group,
    )


def wait_for_steps(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        count -= line == "step\n"
        if count == 0:
            return
    pytest.fail(f"the run ended early: {process.communicate()[1]}")


@pytest.mark.parametrize(
    ("number", "optimizer", "num_workers"),
    [(signal.SIGINT, "adamw", 0), (signal.SIGTERM, "muon", 0), (signal.SIGINT, "muon", 2)],
)
def test_a_stopped_run_is_saved_and_goes_on_exactly(
    tmp_path: Path, number: int, optimizer: OptimizerName, num_workers: int
) -> None:
    """With workers the signal goes to all processes, as Ctrl-C in a terminal does."""
    process = start(str(tmp_path / "run"), optimizer, str(num_workers), group=True)
    wait_for_steps(process, 7)
    if num_workers:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert "run the same command again to go on" in output
    assert errors == ""
    saved = load_newest_state(tmp_path / "run")
    assert saved is not None
    assert f"stopped at step {saved.step} of 5000, saved in {tmp_path / 'run'}" in output
    assert saved.step >= 6
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]

    recipe = toy_recipe(optimizer, 5000)
    for folder in (tmp_path / "run", tmp_path / "straight"):
        with pytest.raises(Stopped):
            run(folder, recipe=recipe, crash_after=(saved.step // 4 + 2) * 4)
    assert_equal_states(tmp_path / "run", tmp_path / "straight")
    assert log_of(tmp_path / "run") == log_of(tmp_path / "straight")


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path: Path) -> None:
    process = start(str(tmp_path), "adamw", "0", "slow")
    wait_for_steps(process, 4)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.7)
    begin = time.monotonic()
    while process.poll() is None and time.monotonic() - begin < 40:  # the step itself takes 60 seconds
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    assert process.returncode is not None
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
