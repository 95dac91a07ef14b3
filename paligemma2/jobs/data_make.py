"""Miniatures: the data sets of benchmarks in their own formats, drawn instead of downloaded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from paligemma2 import tasks
from paligemma2.checkpoint.atomic import new_folder
from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.kinds import draw_contents
from paligemma2.data.miniatures.row_names import AnswerField, RowNames
from paligemma2.data.miniatures.write import shared_file, write_miniature
from paligemma2.data.readers.records import Reader
from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Task, parse_splits

ALL = "all"
_DERIVED = ("options", "context", "language")
"""Fields of prompts that readers make."""
_APART = 100_000
"""How far the numbers of the contents of two splits are from each other, so that no two share a picture."""


@dataclass(frozen=True, kw_only=True)
class DataMakeConfig:
    """What `run` needs.

    Attributes:
        tasks: names, or files that hold a `TASK`; "all" stands for all names.
        output: the new folder; of several tasks, each gets a folder of its name in it.
        examples: pictures, pairs or videos of each split that is scored.
        training_examples: of each split that is only trained on; None is as many.
        seed: of what is drawn.
    """

    tasks: tuple[str, ...]
    output: Path
    examples: int = 24
    training_examples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("examples", "training_examples"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < _APART:
                raise ConfigError(f"{name} is {value}", hint=f"give 1 to {_APART - 1}")

    @property
    def makes_several(self) -> bool:
        """Whether each task gets a folder of its own in `output`."""
        return len(self.tasks) > 1 or self.tasks == (ALL,)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tasks."""
        return tasks.names() if self.tasks == (ALL,) else self.tasks


@dataclass(frozen=True, kw_only=True)
class MadeMiniature:
    """One data set.

    Attributes:
        task: its name.
        folder: where it is.
        splits: how many pictures, pairs or videos each has.
    """

    task: str
    folder: Path
    splits: dict[str, int]


def run(
    config: DataMakeConfig, on_task: Callable[[str], None] = lambda name: None
) -> tuple[MadeMiniature, ...]:
    """Make the miniatures; `on_task` is called with each name before its turn.

    Raises:
        InputError: there is no such task, or the folder exists.
        ConfigError: a task names no kind of content, or has a reader without a writer.
        MissingExtra: videos and tables need libraries that are not installed.
        WorkError: the folder cannot be written.
    """
    if not config.names:
        raise InputError("no task is named", hint="name one, or all; `paligemma2 tasks` lists them")
    made = []
    for name in config.names:
        task, stem = tasks.load(name), Path(name).stem
        on_task(stem)
        folder = config.output / stem if config.makes_several else config.output
        made.append(make(task, name=stem, folder=folder, config=config))
    return tuple(made)


def make(task: Task, *, name: str, folder: Path, config: DataMakeConfig) -> MadeMiniature:
    """Make the miniature of one task in a new folder, for every split that it names."""
    if not task.miniature:
        raise ConfigError(f"{name} names no kind of miniature", hint="give `miniature` in the task")
    splits = tuple(_drawn(task, name, config))
    with new_folder(folder) as unfinished:
        pairs = [(reader, contents) for _, reader, contents in splits]
        write_miniature(unfinished, pairs, _names(task))
    counts = {split: len(contents) for split, _, contents in splits}
    return MadeMiniature(task=name, folder=folder, splits=counts)


def _drawn(task: Task, name: str, config: DataMakeConfig) -> Iterator[tuple[str, Reader, Sequence[Content]]]:
    named = [*(split for row in task.rows for split in row.splits), *filter(None, [task.test_split])]
    scored = {part.name for split in named for part in parse_splits(split)}
    seen: list[Reader] = []
    places: dict[str, int] = {}
    for split, reader in task.splits.items():
        if reader in seen:  # another name for the same rows
            continue
        seen.append(reader)
        count = config.examples if split in scored else config.training_examples or config.examples
        first = 1 + _APART * places.setdefault(shared_file(reader) or split, len(places))
        contents = draw_contents(task.miniature, seed=f"{name} {config.seed}", first=first, count=count)
        yield split, reader, tuple(contents)


def _names(task: Task) -> RowNames:
    """The field of the prompt that is no part of its form, and the fields of right answers."""
    asked = [name for _, name, _, _ in Formatter().parse(task.prefix) if name and name not in _DERIVED]
    answers = [
        AnswerField(name=target.name, item=target.item)
        for target in (task.suffix, task.references)
        if isinstance(target, Field)
    ]
    return RowNames(question=asked[0] if asked else "question", answers=tuple(answers), meta=task.meta)
