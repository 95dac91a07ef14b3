"""The report on some runs: the card's table with our numbers, as Markdown, CSV and HTML."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paligemma2 import tasks
from paligemma2.checkpoint.atomic import new_file
from paligemma2.errors import ConfigError
from paligemma2.evaluation.task import Task
from paligemma2.report.card_table import CardTable, card_table, read_runs
from paligemma2.report.markdown import csv_text, markdown
from paligemma2.report.page import report_page

MARKDOWN, CSV, PAGE = "report.md", "report.csv", "report.html"


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What to report on.

    Attributes:
        runs: folders that `evaluate` wrote, or folders of such folders.
        output: folder of the report; files of an older one in it are replaced.
        task_files: Python files of tasks that are not the package's own, to know their numbers.
        has_all_rows: show rows without a run too, with the card's number alone.
        num_samples: pictures of each row, the worst first.

    Raises:
        ConfigError: there are no runs, or `num_samples` is negative.
    """

    runs: tuple[Path, ...]
    output: Path
    task_files: tuple[Path, ...] = ()
    has_all_rows: bool = False
    num_samples: int = 6

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError(
                "no runs to report on", hint="give the folders that `paligemma2 evaluate` wrote"
            )
        if self.num_samples < 0:
            raise ConfigError(f"num_samples is {self.num_samples}", hint="give 0 or more")


def run(config: ReportConfig) -> CardTable:
    """Write the three files; returns the table.

    Raises:
        DataError: a folder holds no result, or a file is damaged.
        InputError: a file of a task holds none.
        WorkError: the disk is full or refuses.
    """
    runs = read_runs(config.runs)
    known = _tasks(config)
    table = card_table(runs, known, has_all_rows=config.has_all_rows)
    config.output.mkdir(parents=True, exist_ok=True)
    texts = {
        MARKDOWN: markdown(table),
        CSV: csv_text(table),
        PAGE: report_page(table, known, num_samples=config.num_samples),
    }
    for name, text in texts.items():
        with new_file(config.output / name, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return table


def _tasks(config: ReportConfig) -> Mapping[str, Task]:
    """By the names that results may have of them: of the module, or the path of a file and its stem.

    A result only names its task. A file is run when the user gives it, never because a result says so.
    """
    known = {name: tasks.load(name) for name in tasks.names()}
    for path in config.task_files:
        known[str(path)] = known[path.stem] = tasks.load(str(path))
    return known
