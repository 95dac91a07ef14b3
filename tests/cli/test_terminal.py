import io
import os
import pty
import subprocess
import sys

import pytest

from paligemma2.cli.terminal import (
    AnswersBar,
    EvaluationBars,
    bytes_bar,
    print_error,
    print_note,
    print_rows,
    print_table,
    rows_counter,
    training_bar,
)
from paligemma2.errors import InputError, WorkError
from paligemma2.evaluation.predict import PredictProgress
from paligemma2.jobs.evaluate import EvaluateProgress
from paligemma2.training.trainer import Progress


def on_a_terminal(program, stdout_too=True):
    """What a program writes to a terminal, and (if that is a pipe) to stdout."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=theirs if stdout_too else subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, shown
    return shown.decode(), (out or b"").decode()


def test_errors_and_notes_are_one_line_each(capsys):
    assert print_error(InputError("what\nwas wrong", hint="do this")) == 2
    assert print_error(WorkError("no hint")) == 1
    print_note("note", "by the way")
    captured = capsys.readouterr()
    assert captured.err == "error: what was wrong\nhint: do this\nerror: no hint\nnote: by the way\n"
    assert captured.out == ""


def test_there_is_no_bar_without_a_terminal(capsys):
    with bytes_bar("converting") as show, AnswersBar(3) as bar:
        show(1, 2)
        bar.load(1, 10**9)
        with bar.hidden():
            pass
        bar.advance()
    assert capsys.readouterr() == ("", "")


def test_rows_are_counted_on_a_terminal_only(capsys):
    with rows_counter("converted") as show:
        show(1234)
    assert capsys.readouterr() == ("", "")
    program = """
from paligemma2.cli.terminal import rows_counter
with rows_counter("converted") as show:
    show(1234)
"""
    shown, _ = on_a_terminal(program)
    assert "1,234 rows converted" in shown


def test_training_writes_lines_without_a_terminal(capsys):
    numbers = {"learning_rate": 0.1, "grad_norm": 1.0, "examples_per_second": 71.6, "seconds": 2.0}
    counters = dict.fromkeys(("not_finite", "spikes", "skipped", "skipped_examples", "cut_suffixes"), 0)
    with training_bar() as show:
        show("stage1", Progress(step=5, steps=10, loss=1.25, **numbers, **counters))
    assert capsys.readouterr().err == "stage1: step 5/10  loss 1.250  72 examples/s\n"


def test_bars_are_drawn_on_a_terminal():
    program = """
from paligemma2.cli.terminal import AnswersBar, bytes_bar, training_bar
from paligemma2.training.trainer import Progress
with bytes_bar("converting") as show:
    show(500, 1000)
    show(1000, 1000)
with training_bar() as show:
    show("stage1", Progress(step=5, steps=10, loss=1.25, learning_rate=0.1, grad_norm=1.0,
                            not_finite=0, spikes=0, skipped=0, skipped_examples=0, cut_suffixes=0,
                            examples_per_second=71.6, seconds=2.0))
"""
    shown, _ = on_a_terminal(program)
    for text in ("converting", "stage1", "loss 1.250", "72 examples/s"):
        assert text in shown


ANSWERS = """
import sys
from paligemma2.cli.terminal import AnswersBar
with AnswersBar(%d) as bar:
    bar.load(1, %d)
    bar.load(10, %d)
    with bar.hidden():
        print("one " * 40 + "<loc0001>", flush=True)
    bar.advance()
"""
LONG_LINE = "one " * 40 + "<loc0001>"


@pytest.mark.parametrize("stdout_too", [True, False])
def test_answers_are_written_as_they_are_beside_the_bar(stdout_too):
    """Neither wrapped nor coloured, and not through the bar's own stream."""
    shown, out = on_a_terminal(ANSWERS % (3, 10, 10), stdout_too=stdout_too)
    assert "answered 1 of 3" in shown
    assert "loading" not in shown
    assert (LONG_LINE in shown) == stdout_too
    assert out == ("" if stdout_too else LONG_LINE + "\n")


def test_a_single_answer_has_no_bar():
    shown, _ = on_a_terminal(ANSWERS % (1, 10, 10))
    assert shown == LONG_LINE + "\r\n"


def test_a_large_model_shows_that_it_loads():
    for total in (1, 3):
        shown, _ = on_a_terminal(ANSWERS % (total, 10**9, 10**9))
        assert "loading" in shown
        assert LONG_LINE in shown


def test_a_table_shows_names_and_values_as_they_are(capsys):
    print_table({"variant": "3b-224 [bold]", "dtype": "bfloat16"}, title="a model")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a model", "variant  3b-224 [bold]", "dtype    bfloat16"]


def test_rows_are_written_each_on_one_line_under_their_header(capsys):
    print_rows(("rate", "score"), [("3e-06", "0.5"), ("1e-05", "failed " + "x" * 100)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["rate", "3e-06", "1e-05"]
    assert len({len(line) for line in lines}) == 1


def evaluated(done, total=8, rate=2.0, left=3725.0):
    predicted = PredictProgress(done=done, total=total, rate=rate, seconds_left=left)
    return EvaluateProgress(model="tiny", task="vqav2", split="val", predicted=predicted)


def test_predictions_are_told_in_lines_where_there_is_no_terminal(capsys):
    with EvaluationBars() as bars:
        bars.load(1, 10**9)
        bars.show(evaluated(0, rate=0.0, left=None))
        bars.show(evaluated(4))  # too soon for another line
        bars.show(evaluated(8, left=0.0))
    assert capsys.readouterr().err.splitlines() == [
        "tiny vqav2 val: 0/8",
        "tiny vqav2 val: 8/8  2.0/s  0:00 left",
    ]


def test_predictions_have_a_bar_with_the_time_left_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with EvaluationBars() as bars:
        bars.load(5 * 10**8, 10**9)
        bars.show(evaluated(4))
        bars.show(evaluated(8, left=59.0))
    assert "loading the model" in screen.getvalue()
    assert "tiny vqav2 val" in screen.getvalue()
    assert "8/8" in screen.getvalue()
    assert "0:59 left" in screen.getvalue()
