import os
import signal
import subprocess
import sys
import time

import pytest

import paligemma2
from paligemma2.errors import InputError, WorkError
from tests.small_model import save_picture


@pytest.fixture
def failing(monkeypatch):
    """Let the work of `inspect` fail with an error."""

    def set_error(error):
        def fail(*arguments, **settings):
            raise error

        monkeypatch.setattr("paligemma2.jobs.inspect.run", fail)

    return set_error


def test_the_version_is_shown(run):
    assert run("--version").out == f"paligemma2 {paligemma2.__version__}\n"


def test_help_names_every_verb(run):
    ended = run("--help")
    assert ended.code == 0
    for verb in ("predict", "transfer", "sweep", "inspect", "convert", "demo", "pretrain"):
        assert f"  {verb} " in ended.out


def test_nothing_to_do_shows_the_help(run):
    ended = run()
    assert ended.code == 2
    assert "Usage: paligemma2" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretict"], "Did you mean 'predict'"),
        (["--nonsense"], "No such option: --nonsense"),
        (["inspect"], "Missing argument"),
        (["inspect", "a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_the_help(run, words, message):
    ended = run(*words)
    assert ended.has_failed_with(message), ended
    assert "--help" in ended.err


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (InputError("bad", hint="do this"), 2, ["error: bad", "hint: do this"]),
        (WorkError("two\nlines"), 1, ["error: two lines"]),
        (KeyboardInterrupt(), 130, ["error: stopped by Ctrl-C"]),
        (
            ZeroDivisionError("by zero"),
            1,
            ["error: ZeroDivisionError: by zero", "hint: run with --debug for the traceback"],
        ),
    ],
)
def test_every_error_ends_in_a_line_and_its_code(run, failing, error, code, lines):
    failing(error)
    ended = run("inspect", "x")
    assert (ended.code, ended.err.splitlines(), ended.out) == (code, lines, "")


@pytest.mark.parametrize("words", [["--debug", "inspect", "x"], ["inspect", "x", "--debug"]])
def test_debug_shows_the_traceback(run, failing, words):
    failing(InputError("bad"))
    ended = run(*words)
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert ended.err.endswith("error: bad\n")


def test_debug_behind_two_dashes_is_an_argument(run):
    ended = run("inspect", "--", "--debug")
    assert ended.has_failed_with("no checkpoint at '--debug'"), ended


def test_sigterm_ends_with_143_and_its_handler_goes_away(run, failing, folder, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    for seed in range(100):
        save_picture(tmp_path / f"{seed:03d}.png", seed)
    words = ["predict", "--model", str(folder), str(tmp_path), "--batch-size", "1", "--max-new-tokens", "400"]
    program = subprocess.Popen(
        [sys.executable, "-m", "paligemma2", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline()
    program.terminate()
    _, error = program.communicate(timeout=60)
    assert (program.returncode, error) == (143, "error: stopped by SIGTERM\n")
    run("--version")
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_reader_that_survives_everything_survives_sigterm():
    program = """
import os, signal, time
from paligemma2.cli import main
def read_damaged_picture(words):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except Exception:
        return 0
main._run = read_damaged_picture
main.main([])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (143, "error: stopped by SIGTERM\n")


def test_a_forked_worker_ends_quietly_on_sigterm():
    program = """
import os, signal, time
from paligemma2.cli.main import _sigterm_raises
with _sigterm_raises():
    worker = os.fork()
    if not worker:
        time.sleep(60)
    time.sleep(0.2)
    os.kill(worker, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""
    start = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("143\n", "")
    assert time.monotonic() - start < 50


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_told_once(folder):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "paligemma2", "inspect", "--json", str(folder)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert "No space left" in ended.stderr.splitlines()[0]
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path):
    name = tmp_path / "é\udcff.png"
    ended = subprocess.run(
        [sys.executable, "-m", "paligemma2", "predict", os.fsencode(name)],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.isascii()
    assert b"no such file" in ended.stderr
