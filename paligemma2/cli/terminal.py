"""What the verbs share in talking to a terminal: errors, notes, progress bars and tables.

Results go to stdout, all else to stderr. Bars are drawn on a terminal only; elsewhere training writes lines.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paligemma2.errors import PaliGemmaError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from paligemma2.jobs.evaluate import EvaluateProgress
    from paligemma2.training.trainer import Progress

_SECONDS_BETWEEN_LINES = 10.0
_LARGE_MODEL = 200_000_000  # bytes; a smaller one is there before a bar is seen


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
def bytes_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for bytes done of bytes in all, gone at the end; it appears with the first call."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)

    def show(done: int, total: int) -> None:
        if not bars.tasks:
            bars.start()
            bars.add_task(description, total=total)
        bars.update(bars.task_ids[0], completed=done)

    try:
        yield show
    finally:
        bars.stop()


@contextmanager
def rows_counter(done_to_them: str) -> Iterator[Callable[[int], None]]:
    """The number of rows so far and the time, on a terminal only; gone at the end.

    How many there will be is not known of data that is read as a stream.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.completed:,} rows {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(done_to_them, total=None)
        yield lambda done: bars.update(task, completed=done)


class AnswersBar:
    """Progress of loading a large model, then of the answers if there are several; gone at the end.

    Other text is written while the bar is `hidden`, so that it reaches its file, terminal or not, as it is.

    Args:
        total: answers to come.
    """

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._bars = _answers_bars() if sys.stderr.isatty() else None

    def __enter__(self) -> "AnswersBar":
        if self._bars is not None and self._total > 1:
            self._bars.add_task(self._description, total=self._total)
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def load(self, done: int, total: int) -> None:
        """Bytes of the model read so far and in all."""
        if self._bars is None or total < _LARGE_MODEL:
            return
        if self._loading is None:
            self._bars.add_task("loading", total=total)
            self._bars.start()
        if self._loading is not None:
            self._bars.update(self._loading, completed=done)
            if done >= total:
                self._bars.remove_task(self._loading)
        if not self._bars.tasks:
            self._bars.stop()

    def advance(self) -> None:
        """One more answer."""
        self._done += 1
        if self._bars is not None and self._total > 1:
            task = self._bars.task_ids[0]
            self._bars.update(task, completed=self._done, description=self._description)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """No bar while other text is written."""
        if self._bars is None or not self._bars.tasks:
            yield
            return
        self._bars.stop()
        yield
        self._bars.start()

    @property
    def _description(self) -> str:
        return f"answered {self._done} of {self._total}"

    @property
    def _loading(self) -> "TaskID | None":
        tasks = [] if self._bars is None else self._bars.tasks
        return next((task.id for task in tasks if task.description == "loading"), None)


def _answers_bars() -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


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


class EvaluationBars:
    """Predictions of each split with the time that is left; lines of text where there is no terminal."""

    def __init__(self) -> None:
        self._bars = _evaluation_bars() if sys.stderr.isatty() else None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = 0.0

    def __enter__(self) -> "EvaluationBars":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def load(self, done: int, total: int) -> None:
        """Bytes of a model read so far and in all."""
        if self._bars is not None and total >= _LARGE_MODEL:
            self._update("loading the model", done, total, f"{total / 1e9:.1f} GB")

    def show(self, progress: "EvaluateProgress") -> None:
        """How far a split is."""
        predicted = progress.predicted
        name = f"{progress.model} {progress.task} {progress.split}"
        left = "" if predicted.seconds_left is None else f"{_duration(predicted.seconds_left)} left"
        speed = f"{predicted.rate:.1f}/s" if predicted.rate else ""
        if self._bars is not None:
            self._update(name, predicted.done, predicted.total, f"{speed}  {left}")
            return
        is_last = predicted.done == predicted.total
        if is_last or time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            line = f"{name}: {predicted.done}/{predicted.total}  {speed}  {left}"
            print(line.rstrip(), file=sys.stderr, flush=True)

    def _update(self, name: str, done: int, total: int, note: str) -> None:
        assert self._bars is not None
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, note=note)


def _evaluation_bars() -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows of numbers and short words under a header to stdout, each on one line."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
