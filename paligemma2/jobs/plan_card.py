"""What it takes to repeat the card: data, GPU hours and memory for each task, and what cannot be repeated."""

from collections.abc import Mapping
from dataclasses import dataclass

from paligemma2 import tasks
from paligemma2.errors import ConfigError
from paligemma2.evaluation.task import COLUMNS, Download, Task
from paligemma2.model.config import ModelConfig, preset
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.report.costs import (
    ANSWER_TOKENS,
    DEVICES,
    UTILISATION,
    EvaluationCost,
    Shape,
    TrainingCost,
    evaluation_cost,
    meta_model,
    training_cost,
)
from paligemma2.training.recipes import NamedRecipe, transfer_recipe

_END = 1  # a row of training has one token more than the text length: its end, see big_vision's trainer


@dataclass(frozen=True, kw_only=True)
class PlanCardConfig:
    """What to plan.

    Attributes:
        size: "3b", "10b" or "28b".
        resolution: 224 or 448; the card has no other column.
        device: key of `report.costs.DEVICES`.
        utilisation: share of the peak that is taken to be reached.

    Raises:
        ConfigError: the card has no such column, there is no such device, or the share is not in (0, 1].
    """

    size: str = "3b"
    resolution: int = 224
    device: str = "h100"
    utilisation: float = UTILISATION

    def __post_init__(self) -> None:
        if self.column not in COLUMNS:
            raise ConfigError(f"the card has no column {self.column}", hint=f"it has {', '.join(COLUMNS)}")
        if self.device not in DEVICES:
            raise ConfigError(f"device is {self.device!r}", hint=f"use one of {', '.join(DEVICES)}")
        if not 0 < self.utilisation <= 1:
            raise ConfigError(f"utilisation is {self.utilisation}", hint="give a share above 0, at most 1")

    @property
    def column(self) -> str:
        """Of the card's table, "224-3B"."""
        return f"{self.resolution}-{self.size.upper()}"


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """What a task takes.

    Attributes:
        name: of the task.
        title: of the data set.
        published: the rows of the card that it gives, with their numbers.
        downloads: what to fetch.
        training: None for a zero-shot task, or where no source says how many examples there are.
        train_examples: that training sees, over all epochs; None likewise.
        transfer_from: the task whose model a zero-shot task asks.
        evaluation: None where no source says how many examples there are.
        eval_examples: of all rows together, each split once; None likewise.
        inexact_reason: why the card's number cannot be repeated exactly; "" where it can.
    """

    name: str
    title: str
    published: Mapping[str, float]
    downloads: tuple[Download, ...] = ()
    training: TrainingCost | None = None
    train_examples: float | None = None
    transfer_from: str = ""
    evaluation: EvaluationCost | None = None
    eval_examples: int | None = None
    inexact_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class CardPlan:
    """The plan of a column of the card.

    Attributes:
        config: what was asked.
        tasks: those with a number in that column, in the order of their names.
        left_out: titles of those without.
    """

    config: PlanCardConfig
    tasks: tuple[TaskPlan, ...]
    left_out: tuple[str, ...]

    @property
    def downloads(self) -> tuple[Download, ...]:
        """What all tasks need, each thing once."""
        return tuple(dict.fromkeys(each for task in self.tasks for each in task.downloads))

    @property
    def training_hours(self) -> float:
        """GPU hours of all transfers whose size is known."""
        return sum(task.training.gpu_hours for task in self.tasks if task.training is not None)

    @property
    def evaluation_hours(self) -> float:
        """GPU hours of all evaluations whose size is known."""
        return sum(task.evaluation.gpu_hours for task in self.tasks if task.evaluation is not None)


def run(config: PlanCardConfig, known: Mapping[str, Task] | None = None) -> CardPlan:
    """Plan a column of the card; needs no files and no GPU.

    Args:
        config: which.
        known: tasks by name; None for all of the package.
    """
    if known is None:
        known = {name: tasks.load(name) for name in tasks.names()}
    planner = _Planner(config)
    found = {name: task for name, task in known.items() if planner.published(task)}
    left_out = sorted(task.title for name, task in known.items() if name not in found)
    plans = tuple(planner.plan(name, found[name]) for name in sorted(found))
    return CardPlan(config=config, tasks=plans, left_out=tuple(left_out))


def num_pictures(task: Task) -> int:
    """Of each example, frames of a video counted each."""
    return task.num_pictures if task.frames is None else task.frames.count


def eval_examples(task: Task) -> int | None:
    """Of all rows together, rows of the same splits once; None where a number is not known."""
    by_splits = {row.splits: row.num_examples for row in task.rows}
    counts = [count for count in by_splits.values() if count is not None]
    return sum(counts) if len(counts) == len(by_splits) else None


class _Planner:
    """Keeps the two models whose weights are counted, with and without a frozen image encoder."""

    def __init__(self, config: PlanCardConfig) -> None:
        self._config, self._device = config, DEVICES[config.device]
        self._model_config: ModelConfig = preset(f"paligemma2-{config.size}-pt-{config.resolution}")
        self._models: dict[bool, PaliGemma2Model] = {}

    def published(self, task: Task) -> dict[str, float]:
        """The numbers of the column, by row."""
        place = COLUMNS.index(self._config.column)
        values = {row.title: row.published[place] for row in task.rows}
        return {title: value for title, value in values.items() if value is not None}

    def plan(self, name: str, task: Task) -> TaskPlan:
        """What a task takes."""
        train_examples, training = self._training(name, task)
        count = eval_examples(task)
        evaluation = None
        if count is not None:
            shape = Shape(
                pictures=num_pictures(task),
                text_tokens=task.text_length,
                answer_tokens=min(task.text_length, ANSWER_TOKENS),
                beams=task.beams,
            )
            evaluation = evaluation_cost(
                self._model(False), shape, count, self._device, utilisation=self._config.utilisation
            )
        return TaskPlan(
            name=name,
            title=task.title,
            published=self.published(task),
            downloads=task.downloads,
            training=training,
            train_examples=train_examples,
            transfer_from=task.transfer_from,
            evaluation=evaluation,
            eval_examples=count,
            inexact_reason=task.inexact_reason,
        )

    def _training(self, name: str, task: Task) -> tuple[float | None, TrainingCost | None]:
        if task.recipe is None or task.num_train is None:
            return None, None
        recipe: NamedRecipe = transfer_recipe(name, task.recipe, self._model_config)
        examples = task.num_train * (recipe.epochs or 1)
        shape = Shape(
            pictures=num_pictures(task),
            text_tokens=task.text_length + _END,
            answer_tokens=min(task.text_length, ANSWER_TOKENS),
        )
        model = self._model("image" in recipe.training.freeze)
        cost = training_cost(model, shape, examples, self._device, utilisation=self._config.utilisation)
        return examples, cost

    def _model(self, is_image_frozen: bool) -> PaliGemma2Model:
        if is_image_frozen not in self._models:
            self._models[is_image_frozen] = meta_model(self._model_config, is_image_frozen=is_image_frozen)
        return self._models[is_image_frozen]
