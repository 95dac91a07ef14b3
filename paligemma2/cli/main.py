"""The command line: which verbs there are, and how an error ends the program."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated, NoReturn

import typer

from paligemma2.cli.bench import bench
from paligemma2.cli.bulk import bulk
from paligemma2.cli.convert import convert
from paligemma2.cli.data import data
from paligemma2.cli.demo import demo
from paligemma2.cli.evaluate import evaluate
from paligemma2.cli.inspect import inspect
from paligemma2.cli.miniatures import miniatures
from paligemma2.cli.plan import plan
from paligemma2.cli.predict import predict
from paligemma2.cli.pretrain import pretrain
from paligemma2.cli.report import report
from paligemma2.cli.sweep import sweep
from paligemma2.cli.tasks import tasks
from paligemma2.cli.terminal import print_error, print_note
from paligemma2.cli.transfer import transfer
from paligemma2.errors import Interrupted, PaliGemmaError

_BROKEN_PIPE = 128 + 13

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # help with frames takes a tenth of a second more
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    predict,
    transfer,
    sweep,
    evaluate,
    bulk,
    report,
    tasks,
    miniatures,
    inspect,
    convert,
    demo,
    pretrain,
    bench,
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(data, name="data")
app.add_typer(plan, name="plan")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works behind a verb too.")
    ] = False,
) -> None:
    """PaliGemma 2: ask a vision-language model about pictures, and teach it new tasks."""


class _Terminated(BaseException):
    """SIGTERM came. As with `KeyboardInterrupt`, no `except Exception` on the way up holds it back."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _write_any_text()
    own = words[: words.index("--")] if "--" in words else words
    is_debug = "--debug" in own
    words = [word for word in own if word != "--debug"] + words[len(own) :]
    with _sigterm_raises():
        try:
            code = _run(words)
            sys.stdout.flush()
        except BaseException as error:
            code = _report(error, is_debug=is_debug)
    sys.exit(code)


def _run(words: list[str]) -> int:
    if "--version" in words[:1]:
        from paligemma2 import __version__

        print(f"paligemma2 {__version__}")
        return 0
    command = typer.main.get_command(app)
    try:
        with command.make_context("paligemma2", words) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _report(error: BaseException, *, is_debug: bool) -> int:
    """Tell what went wrong in a line or two; returns the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BrokenPipeError):  # nobody reads on, as with `| head`
        _forget_stdout()
        return _BROKEN_PIPE
    if is_debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("stopped by Ctrl-C", signal_number=signal.SIGINT)
    if isinstance(error, _Terminated):
        error = Interrupted("stopped by SIGTERM", signal_number=signal.SIGTERM)
    if isinstance(error, PaliGemmaError):
        return print_error(error)
    if hasattr(error, "format_message"):  # typer's errors of usage, whose class differs between versions
        return _report_usage(error)
    if isinstance(error, OSError):
        _forget_stdout()
    print_note("error", f"{type(error).__name__}: {error}")
    if not is_debug:
        print_note("hint", "run with --debug for the traceback")
    return 1


def _report_usage(error: BaseException) -> int:
    message: str = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return 2
    context = getattr(error, "ctx", None)
    print_note("error", message)
    print_note("hint", f"see {context.command_path if context else 'paligemma2'} --help")
    return 2


def _forget_stdout() -> None:
    """Send what is still in the buffer nowhere; Python would fail once more when it flushes at the end."""
    with suppress(OSError):  # not a real file where a test or an IDE reads along
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_any_text() -> None:
    """Let names and answers that the terminal's encoding lacks be escaped instead of being an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # not there where a test or an IDE reads along
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker that was forked from here
            os._exit(128 + number)
        raise _Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
