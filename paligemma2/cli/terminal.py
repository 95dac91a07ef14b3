"""What the verbs share in talking to a terminal: errors, notes, progress bars and tables.

Results go to stdout, all else to stderr. Bars are drawn on a terminal only; elsewhere training writes lines.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paligemma2.errors import PaliGemmaError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from paligemma2.training.trainer import Progress


def print_error(error: PaliGemmaError) -> int:
    """Write an error to stderr, what was wrong and what to do; returns its exit code."""
    print_note("error", error.message)
    if error.hint:
        print_note("hint", error.hint)
    return error.exit_code


def print_note(kind: str, message: str) -> None:
    """Write `kind: message` to stderr, on one line."""
    print(f"{kind}: {' '.join(message.split())}", file=sys.stderr, flush=True)


@contextmanager
def bytes_bar(description: str, *, least_bytes: int = 0) -> Iterator[Callable[[int, int], None]]:
    """A bar for bytes done of bytes in all, gone at the end; it appears with the first call.

    Args:
        description: what is being done.
        least_bytes: no bar for less than this.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)

    def show(done: int, total: int) -> None:
        if total < least_bytes:
            return
        if not bars.tasks:
            bars.start()
            bars.add_task(description, total=total)
        bars.update(bars.task_ids[0], completed=done)
        if done >= total:
            bars.stop()

    try:
        yield show
    finally:
        bars.stop()


@contextmanager
def count_bar(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar that moves by one with each call."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines for the same terminal go through the bar; those for a file or a pipe must not.
    is_shared = sys.stdout.isatty()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=is_shared) as bars:
        task = bars.add_task(description, total=total)
        yield lambda: bars.advance(task)


@contextmanager
def training_bar() -> Iterator[Callable[[str, "Progress"], None]]:
    """Loss and speed of a run with named stages; lines of text where there is no terminal."""
    if not sys.stderr.isatty():
        yield _print_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:.0f} examples/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    tasks: dict[str, TaskID] = {}
    with bars:
        yield lambda name, progress: _show_progress(bars, tasks, name, progress)


def _show_progress(bars: "Bars", tasks: dict[str, "TaskID"], name: str, progress: "Progress") -> None:
    if name not in tasks:
        tasks[name] = bars.add_task(name, total=progress.steps, loss=0.0, speed=0.0)
    bars.update(tasks[name], completed=progress.step, loss=progress.loss, speed=progress.examples_per_second)


def _print_progress(name: str, progress: "Progress") -> None:
    print(
        f"{name}: step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  "
        f"{progress.examples_per_second:.0f} examples/s",
        file=sys.stderr,
        flush=True,
    )


def print_table(rows: Mapping[str, str], *, title: str = "") -> None:
    """Write names and values in two columns to stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        show_header=False, title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    Console(highlight=False).print(table)
