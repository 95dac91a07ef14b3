import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from paligemma2.cli.processes import first_process_speaks, is_first_process
from paligemma2.errors import Interrupted, WorkError

PROJECT = Path(__file__).resolve().parents[2]
QUESTION = ("--prompt", "detect cat ; dog", "--constrained", "--json", "--max-new-tokens", "12")
# A process whose own environment leads it astray, while the other waits for it.
ASTRAY = """
import os, sys
from paligemma2.cli.main import main
words = sys.argv[1:]
if os.environ["RANK"] == "1":
    name, value = os.environ["ASTRAY"].split("=")
    words[words.index(name) + 1] = value
main(words)
"""


NEEDS_TWO = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NEEDS_TWO])]


def start_torchrun(*words: object, **more: str) -> subprocess.Popen[str]:
    """`torchrun` with two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environ = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"} | more
    return subprocess.Popen(
        [*command, *map(str, words)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchrun(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
    """What `torchrun` with two processes ends with."""
    with start_torchrun(*words, **more) as process:
        output, errors = process.communicate(timeout=240)
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def test_a_process_alone_speaks(capsys):
    assert is_first_process()
    with first_process_speaks():
        sys.stdout.write("heard\n")
    assert capsys.readouterr().out == "heard\n"


def test_another_process_is_silent_but_for_the_error_that_ends_it(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_first_process()

    def fail():
        with first_process_speaks():
            sys.stdout.write("not heard")
            sys.stderr.write("not heard")
            raise WorkError("the disk is full", hint="make room")

    with pytest.raises(WorkError, match="process 1: the disk is full") as raised:
        fail()
    assert raised.value.hint == "make room"
    assert capsys.readouterr() == ("", "")


def test_all_stop_together_and_the_first_says_so(capsys, monkeypatch):
    stopped = Interrupted("stopped at step 3", signal_number=15)

    def stop():
        with first_process_speaks():
            raise stopped

    with pytest.raises(Interrupted):
        stop()
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as raised:
        stop()
    assert raised.value.code == 143
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_two_processes_print_and_draw_what_one_does(run, folder, pictures, tmp_path, device):
    words = ("predict", "--model", folder, *QUESTION, "--device", device, *pictures)
    alone = run(*words, "--annotate", tmp_path / "alone")
    ended = torchrun("-m", "paligemma2", *words, "--annotate", tmp_path / "drawn", "--tensor-parallel")
    assert ended.returncode == 0, ended.stderr
    first, second = ([json.loads(line) for line in out.splitlines()] for out in (alone.out, ended.stdout))
    assert len(first) == len(second) == len(pictures)
    for one, other in zip(first, second, strict=True):
        assert one["token_ids"] == other["token_ids"]
        assert one["detections"][0]["box"] == other["detections"][0]["box"]
    for picture in pictures:
        name = picture.name
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "drawn" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("astray", "message"),
    [("--device=mps", "device 'mps' cannot be shared"), ("--model=no/such/model", "no checkpoint at")],
    ids=["before they meet", "after"],
)
def test_the_error_of_one_process_ends_the_others(folder, pictures, tmp_path, astray, message):
    program = tmp_path / "astray.py"
    program.write_text(ASTRAY)
    began = time.monotonic()
    words = ("predict", "--model", folder, "--device", "cpu", "--tensor-parallel", pictures[0])
    ended = torchrun(program, *words, ASTRAY=astray)
    assert ended.returncode != 0
    assert f"error: process 1: {message}" in ended.stderr
    assert time.monotonic() - began < 30  # after so long torchrun kills what does not end by itself
