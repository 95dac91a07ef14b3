"""The card's table with the numbers of our runs beside it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paligemma2.evaluation.result import RESULT, RowResult, TaskResult, read_results
from paligemma2.evaluation.task import COLUMNS, Row, Task

_RULES = ("prefix", "final_cap", "attention_cap", "window")
"""Entries of a protocol that are fields of the task under the same name."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A result, and the folder that it lies in with the predictions."""

    folder: Path
    result: TaskResult


@dataclass(frozen=True, kw_only=True)
class Control:
    """The number of a model that was spoiled on purpose: what was done to it, and the value as a fraction."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Number:
    """Our number in one row and column.

    Attributes:
        run: that it comes from.
        row: what was found; fractions.
        published: the card's number, in hundredths; None where the card has none for this model.
        is_whole: whether all examples of the data set were scored, by the model itself.
        notes: what must be said beside the number.
        controls: of the same row.
    """

    run: Run
    row: RowResult
    published: float | None
    is_whole: bool
    notes: tuple[str, ...]
    controls: tuple[Control, ...] = ()

    @property
    def difference(self) -> tuple[float, float, float] | None:
        """Ours less the card's, in hundredths, with the ends of its interval; None for a partial run.

        The card gives no interval of its own: this one has the sampling of our examples in it, not the spread
        over the runs of fine-tuning whose mean the card's number is.
        """
        if self.published is None or not self.is_whole:
            return None
        low, high = self.row.interval
        return tuple(100 * value - self.published for value in (self.row.value, low, high))  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A model, or the models that were trained each for a task of its own.

    Attributes:
        title: short, for a heading; each column has its own.
        card: the column of the card, "224-3B"; "" for a model of another size.
        mode: which rules the metrics follow.
        models: as they were named, each once; none in a column of published numbers alone.
    """

    title: str
    card: str
    mode: str = "paligemma"
    models: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CardRow:
    """A row of the table; `published` and `numbers` have one entry for each column."""

    title: str
    task: str
    metric: str
    published: tuple[float | None, ...]
    numbers: tuple[Number | None, ...]


@dataclass(frozen=True, kw_only=True)
class CardTable:
    """The table: its columns, and its rows in the order of the card."""

    columns: tuple[Column, ...]
    rows: tuple[CardRow, ...]

    @property
    def numbers(self) -> tuple[Number, ...]:
        """All of ours, row by row."""
        return tuple(number for row in self.rows for number in row.numbers if number is not None)


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """The results in some folders and below, each once.

    Raises:
        DataError: a folder holds none, or a file is damaged.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        paths = sorted(folder.rglob(RESULT))
        for path, result in zip(paths, read_results(folder), strict=True):
            found.setdefault(path.resolve(), Run(folder=path.parent, result=result))
    return list(found.values())


def card_table(runs: Sequence[Run], tasks: Mapping[str, Task], *, has_all_rows: bool = False) -> CardTable:
    """Bring results under the rows and the columns of the card.

    A column takes the results of one model; those of other models of the same size too, as long as each gives
    rows of its own, since a model of the card is trained for one task.

    Args:
        runs: what was found.
        tasks: by the name that results have of them; for the card's numbers and what is said of the protocol.
        has_all_rows: also show rows of the tasks without a run, with the card's number alone.
    """
    groups = _groups(runs)
    columns = _columns(groups)
    if has_all_rows and not any(column.card for column in columns):
        columns.append(Column(title=COLUMNS[0], card=COLUMNS[0]))
        groups.append([])
    known = {row.title: (name, row) for name, task in tasks.items() for row in task.rows}
    ran = {row.row: (run.result.task, row) for run in runs for row in run.result.rows}
    titles = sorted({*ran, *(known if has_all_rows else ())})
    rows = []
    for title in titles:
        name = ran[title][0] if title in ran else known[title][0]
        task = tasks.get(name)
        row = _row_of(task, title)
        rows.append(
            CardRow(
                title=title,
                task=name,
                metric=ran[title][1].metric if title in ran else known[title][1].metric.name,
                published=tuple(_published(row, column.card) for column in columns),
                numbers=tuple(_number(group, title, task, row) for group in groups),
            )
        )
    return CardTable(columns=tuple(columns), rows=tuple(rows))


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """The results of each column; controls come to the first that has their rows."""
    groups: list[list[Run]] = []
    for run in sorted(runs, key=lambda each: bool(each.result.control)):
        alike = [group for group in groups if _key(group[0]) == _key(run)]
        if run.result.control:
            beside = [group for group in alike if _titles(group) & _titles([run])]
        else:
            beside = [group for group in alike if not _titles(group) & _titles([run])]
        same = [group for group in beside if run.result.model in {each.result.model for each in group}]
        chosen = next(iter((*same, *beside)), None)
        if chosen is None:
            groups.append([run])
        else:
            chosen.append(run)
    return groups


def _key(run: Run) -> tuple[str, str]:
    return run.result.column, run.result.mode


def _titles(group: Sequence[Run]) -> set[str]:
    return {row.row for run in group for row in run.result.rows}


def _columns(groups: Sequence[Sequence[Run]]) -> list[Column]:
    columns = [_column(group) for group in groups]
    counts = Counter(column.title for column in columns)
    return [
        replace(column, title=f"{column.title}, {_who(column)}") if counts[column.title] > 1 else column
        for column in columns
    ]


def _column(group: Sequence[Run]) -> Column:
    first = group[0].result
    own = [run.result.model for run in group if not run.result.control] or [first.model]
    column = Column(title="", card=first.column, mode=first.mode, models=tuple(dict.fromkeys(own)))
    name = column.card or _who(column)
    return replace(column, title=f"{name}, official rules" if column.mode == "official" else name)


def _who(column: Column) -> str:
    return Path(column.models[0]).name if len(column.models) == 1 else f"{len(column.models)} models"


def _row_of(task: Task | None, title: str) -> Row | None:
    return next((row for row in task.rows if row.title == title), None) if task is not None else None


def _published(row: Row | None, column: str) -> float | None:
    return row.published[COLUMNS.index(column)] if row is not None and column in COLUMNS else None


def _number(group: Sequence[Run], title: str, task: Task | None, row: Row | None) -> Number | None:
    found = [(run, each) for run in group for each in run.result.rows if each.row == title]
    if not found:
        return None
    (run, ours), *others = found
    number = Number(
        run=run,
        row=ours,
        published=_published(row, run.result.column),
        is_whole=_is_whole(run.result, ours, row),
        notes=tuple(_notes(run.result, ours, task, row)),
    )
    controls = (Control(name=run.result.control, value=each.value) for run, each in others)
    return replace(number, controls=tuple(controls))


def _is_whole(result: TaskResult, ours: RowResult, row: Row | None) -> bool:
    is_all = result.limit is None and ours.num_scored == ours.num_rows and not result.control
    return is_all and not (row is not None and row.is_other_data(ours.num_rows))


def _notes(result: TaskResult, ours: RowResult, task: Task | None, row: Row | None) -> Iterable[str]:
    if result.control:
        yield f"a control ({result.control}); there is no number of the model itself beside it"
    if result.limit is not None:
        yield f"partial: at most {result.limit:,} rows of each split, drawn with seed {result.seed}"
    elif ours.num_scored != ours.num_rows:
        yield f"partial: {ours.num_rows - ours.num_scored:,} of {ours.num_rows:,} examples were not scored"
    missing = [name for split in ours.splits for name in result.missing.get(split, ())]
    if missing:
        yield f"{len(missing):,} pictures are not there (the first: {missing[0]})"
    if row is not None and row.num_examples not in (None, ours.num_rows):
        word = "partial: " if row.is_other_data(ours.num_rows) else ""
        yield f"{word}{ours.num_rows:,} examples in the files, {row.num_examples:,} in the data set"
    if result.mode == "official":
        yield "scored by the data set's own rule, the card's number by big_vision's"
    if result.protocol.get("protocol") == "hf":
        yield "soft-caps, window and resize are the checkpoint's own (protocol hf), not the card's"
    elif task is not None:
        yield from _other_rules(result, task)
    if task is not None and task.inexact_reason:
        yield f"not exactly repeatable: {task.inexact_reason}"


def _other_rules(result: TaskResult, task: Task) -> Iterable[str]:
    """Where a run was made by other rules than the task has now."""
    for name in _RULES:
        value = getattr(task, name)
        if name in result.protocol and result.protocol[name] != value:
            yield f"{name} is {_shown(result.protocol[name])}; the card's protocol has {_shown(value)}"


def _shown(value: object) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str) else str(value)
