"""What an evaluation is asked to do."""

import re
from dataclasses import dataclass
from pathlib import Path

from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.protocol import Control, ProtocolName, ProtocolSettings
from paligemma2.evaluation.task import Row, Task
from paligemma2.inference.devices import Dtype
from paligemma2.metrics.scores import Mode
from paligemma2.model.weight_forms import Quantization


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What `evaluate.run` needs.

    Attributes:
        models: "tiny", folders, npz files or hub ids.
        tasks: names of `tasks.names()`, or Python files that hold a `TASK`.
        data: the folder of the data set; or one that has a folder for each task, called as the task is; or
            `owner/name` on the Hugging Face hub.
        output: a folder; the results of a model and a task are in `<output>/<model>/<task>`.
        splits: of the tasks, only rows with these are evaluated; a `test_split` named here is predicted for
            its server. Empty for all rows of the card.
        protocol: see `ProtocolSettings`.
        mode: see `ProtocolSettings`.
        limit: see `ProtocolSettings`.
        seed: see `ProtocolSettings`.
        control: see `ProtocolSettings`.
        batch_size: examples that are asked at once.
        device: see `paligemma2.load`; of several processes each takes the GPU of its number.
        dtype: see `paligemma2.load`.
        quantize: see `paligemma2.load`.
        adapter: see `paligemma2.load`; a folder, or None.
        mask_codec: see `paligemma2.load`; None is its default.
        bootstrap_samples: of the intervals.

    Raises:
        ConfigError: nothing to do, something is named twice, or a number is not above zero.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    data: Path | str
    output: Path
    splits: tuple[str, ...] = ()
    protocol: ProtocolName = "paligemma"
    mode: Mode = "paligemma"
    limit: int | None = None
    seed: int = 0
    control: Control = ""
    batch_size: int = 16
    device: str = "auto"
    dtype: Dtype = "auto"
    quantize: Quantization | None = None
    adapter: Path | None = None
    mask_codec: Path | None = None
    bootstrap_samples: int = 1000

    def __post_init__(self) -> None:
        for name in ("models", "tasks"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ConfigError(f"{name} are {list(given)}", hint="give at least one, and each once")
        for name in ("batch_size", "bootstrap_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give a number above zero")
        _ = self.settings  # which checks itself

    @property
    def settings(self) -> ProtocolSettings:
        """What of this decides the numbers, beside the tasks and the model."""
        return ProtocolSettings(
            name=self.protocol, mode=self.mode, limit=self.limit, seed=self.seed, control=self.control
        )

    def data_source(self, task: str) -> Path | str:
        """Where the data set of a task is: the folder called as the task, or the one of this name in it.

        A folder that is called so itself is taken as it is: RefCOCO has a folder `refcoco` among its own.
        """
        own = Path(self.data) / task_name(task)
        return own if own.is_dir() and Path(self.data).name != own.name else self.data

    def folder(self, model: str, task: str) -> Path:
        """Where the predictions and the result of a model and a task go."""
        last = _last_part(model)
        are_alike = sum(_last_part(each) == last for each in self.models) > 1
        parts = [model if are_alike else last, self.control]
        run = "+".join(re.sub(r"[^\w.-]+", "-", part).strip("-") for part in parts if part)
        return self.output / run / task_name(task)


def task_name(task: str) -> str:
    """The name of a task, or of the file that it is in."""
    return Path(task).stem if task.endswith(".py") else task


def chosen_rows(task: Task, splits: tuple[str, ...]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows of a task that some splits give, and the splits to predict only, for a server.

    Raises:
        InputError: the task has none of these splits.
    """
    if not splits:
        return task.rows, ()
    rows = tuple(row for row in task.rows if set(row.splits) <= set(splits))
    only_predicted = tuple(split for split in splits if split == task.test_split)
    if not rows and not only_predicted:
        known = dict.fromkeys([split for row in task.rows for split in row.splits] + [task.test_split])
        raise InputError(
            f"{task.title} has no row of {', '.join(splits)}",
            hint=f"use all splits of a row: {', '.join(each for each in known if each)}",
        )
    return rows, only_predicted


def _last_part(model: str) -> str:
    path = Path(model).expanduser()
    name = path.resolve().name if path.exists() else path.name
    return name.removesuffix(".npz")
