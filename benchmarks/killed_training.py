"""Kill a process that trains, again and again, and see that nothing is lost.

    python benchmarks/killed_training.py --kills 200 --json benchmarks/results/killed_training.json

The small model learns a task whose state is saved after every update, and scored now and then. The process
gets SIGKILL at a random moment, every second time as soon as it writes a state, and is started anew with
another number of worker processes. The weights at the end, the log and the scores must be those of a run that
nobody killed, bit for bit; otherwise the script fails.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from paligemma2.data.synthetic.transfer_task import write_transfer_task
from paligemma2.jobs import transfer
from paligemma2.jobs.transfer_config import TransferConfig, configure
from paligemma2.training.run_log import EVALUATIONS, read_log

SETTINGS = (
    "training.batch_size=2",
    "training.checkpoint_every=1",
    "training.log_every=1",
    "training.average_decay=0.9",
    "evaluation.every=7",
    "evaluation.examples=2",
    "evaluation.max_new_tokens=4",
)
CLOCK = ("examples_per_second", "seconds")


@dataclass
class Result:
    """What happened: kills in all, those while a state was written, those that came too early to save one."""

    kills: int = 0
    during_saves: int = 0
    without_progress: int = 0
    steps: int = 0
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = kill_and_compare(Path(folder), arguments.kills, arguments.seed)
    result.seconds = round(time.monotonic() - begin, 1)
    print(json.dumps(asdict(result)))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(result), indent=2) + "\n")


def kill_and_compare(folder: Path, kills: int, seed: int) -> Result:
    """Run once in peace and once under fire, and compare."""
    chance, result = random.Random(seed), Result(steps=max(20, kills * 2))
    write_transfer_task(folder / "task", train=24, held_out=2, seed=seed)
    calm, harried = folder / "calm", folder / "harried"
    if wait_for(start(config_for(folder, calm, result.steps))):
        raise SystemExit("the run in peace failed")
    while result.kills < kills:
        killed = kill_once(config_for(folder, harried, result.steps, chance.randrange(3)), chance, result)
        if not killed:
            raise SystemExit(f"the run ended after {result.kills} kills; give it more steps")
    if wait_for(start(config_for(folder, harried, result.steps, chance.randrange(3)))):
        raise SystemExit(f"the run did not recover after {result.kills} kills")
    compare(calm, harried)
    return result


def config_for(folder: Path, output: Path, steps: int, num_workers: int = 0) -> TransferConfig:
    """The same run whatever the output and the workers."""
    settings = (*SETTINGS, f"training.steps={steps}", f"num_workers={num_workers}")
    return configure("tiny", folder / "task", output, settings=settings)


def start(config: TransferConfig) -> int:
    """A process of its own that does the run; it has the libraries already."""
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        transfer.run(config, lambda name, progress: None)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def wait_for(child: int) -> int:
    """The exit code of a process that is left alone."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_once(config: TransferConfig, chance: random.Random, result: Result) -> bool:
    """Start the run and kill it with its workers; False if it ended before."""
    before, child = newest(config), start(config)
    waits_for_a_save = result.kills % 2 == 0
    until = time.monotonic() + chance.uniform(0.2, 2.5)
    while waits_for_a_save or time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        # Not the first save of a life, which a run could never get past.
        if waits_for_a_save and newest(config) != before and any(config.run_folder.glob(".step-*")):
            time.sleep(chance.uniform(0.0, 0.05))
            break
        time.sleep(0.0005)
    is_saving = any(config.run_folder.glob(".step-*"))
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    result.kills += 1
    result.during_saves += is_saving and any(config.run_folder.glob(".step-*"))
    result.without_progress += newest(config) == before
    return True


def newest(config: TransferConfig) -> str:
    """The name of the newest state, or nothing."""
    return max((path.name for path in config.run_folder.glob("step-*")), default="")


def compare(calm: Path, harried: Path) -> None:
    """End the script if the two runs differ in anything but the clock."""
    digests = [
        hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() for folder in (calm, harried)
    ]
    if digests[0] != digests[1]:
        raise SystemExit("the weights differ")
    for name in ("log.jsonl", EVALUATIONS):
        logs = [
            [
                {key: value for key, value in line.items() if key not in CLOCK}
                for line in read_log(folder.with_name(folder.name + ".run"), name)
            ]
            for folder in (calm, harried)
        ]
        if logs[0] != logs[1] or not logs[0]:
            raise SystemExit(f"{name} differs")


if __name__ == "__main__":
    main()
