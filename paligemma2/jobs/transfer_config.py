"""What a transfer is asked to do."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from paligemma2 import tasks
from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.configuration import with_settings
from paligemma2.data.sources import DataSource
from paligemma2.data.training_data import DataRules
from paligemma2.errors import ConfigError, InputError
from paligemma2.inference.devices import Dtype
from paligemma2.jobs.evaluate_config import task_name
from paligemma2.jobs.transfer_evaluation import EvaluationSettings
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.weight_forms import Quantization
from paligemma2.training.recipe import Recipe
from paligemma2.training.recipes import NAMES, SMALL, NamedRecipe, recipe_named, transfer_recipe
from paligemma2.training.tracking import TrackingSettings
from paligemma2.training.trainer import bfloat16_is_fast


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What `run` needs; `configure` makes one from a named recipe.

    Attributes:
        model: "tiny", a folder, an npz file or a hub id.
        data: folder or file in any format of `data.registry`, or sources of a weighted mixture.
        task: name of a benchmark, or a file with a `TASK`, whose training split is trained on and whose
            metric validates; `data` is then the folder of its data set. "" is data of one's own.
        tune: train and validate on the splits for choosing settings, not on those of the card's number.
        output: the new model folder, or that of the new adapter; logs, and states until the end, stand beside
            it in `<output>.run`.
        recipe: what the recipe is called, for the record.
        training: the hyper-parameters; the seed is that of the order of the examples too.
        epochs: passes over the data, which give the number of updates instead of `training.steps`.
        has_final_cap: whether the output layer keeps its soft-cap, if the model has one; an adapter cannot
            do without, because the folder of the model that it is used with still has it.
        lora: train an adapter on top of the model, whose weights stay as they are; None trains the weights.
        quantize: bits of the weights below an adapter, "int8" or "int4"; None leaves them as they are.
        rules: what becomes of several answers, of long texts and of examples that cannot be used.
        mask_codec: of a task whose answers are masks; see `paligemma2.load`. None is its default.
        evaluation: when and how to score.
        num_workers: processes that read pictures ahead.
        image_cache_gb: memory in which outputs of a frozen image encoder are kept for pictures that come
            again; 0 encodes each time.
        tracking: where the numbers go beside the run folder; None sends them nowhere.
        sharded: share the model with the other processes of `torchrun`, each of which holds a part of it and
            computes its share of every batch. All see the same files.
    """

    model: str
    data: Path | tuple[DataSource, ...]
    output: Path
    task: str = ""
    tune: bool = False
    recipe: str = "small"
    training: Recipe = SMALL.training
    epochs: float | None = None
    has_final_cap: bool = True
    lora: LoraSettings | None = None
    quantize: Quantization | None = None
    rules: DataRules = field(default_factory=DataRules)
    mask_codec: Path | None = None
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    num_workers: int = 1
    image_cache_gb: float = 0.0
    tracking: TrackingSettings | None = None
    sharded: bool = False

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The data set, or those of the mixture."""
        return (DataSource(path=self.data),) if isinstance(self.data, Path) else self.data

    @property
    def run_folder(self) -> Path:
        """Where logs and states are."""
        return self.output.with_name(self.output.name + ".run")

    def __post_init__(self) -> None:
        if self.quantize is not None and self.lora is None:
            raise ConfigError(
                f"quantize is {self.quantize!r}, and weights of few bits cannot be trained",
                hint="train an adapter on them: lora.rank=8",
            )
        if self.lora is not None and not self.has_final_cap:
            raise ConfigError(
                "an adapter is trained without the final cap, with which it will be used",
                hint="leave has_final_cap=true, or train the weights themselves",
            )
        if self.task and len(self.sources) > 1:
            raise ConfigError(
                f"{len(self.sources)} data sets for the task {self.task!r}",
                hint="give the folder of its data set",
            )
        if self.epochs is not None and not self.epochs > 0:
            raise ConfigError(f"epochs is {self.epochs}", hint="give a number above zero")
        for name in ("num_workers", "image_cache_gb"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give zero or more")

    def num_steps(self, num_examples: int) -> int:
        """The number of updates, given how many examples there are (rounded as big_vision does)."""
        if self.epochs is None:
            return self.training.steps
        return max(1, round(self.epochs * num_examples / self.training.batch_size))


def configure(
    model: str,
    data: str | Path | tuple[DataSource, ...],
    output: str | Path,
    *,
    recipe: str | None = None,
    task: str = "",
    settings: Iterable[str] = (),
) -> TransferConfig:
    """The configuration of a named recipe for a model, with some settings changed.

    Args:
        model: see `TransferConfig`.
        data: see `TransferConfig`.
        output: see `TransferConfig`.
        recipe: a name of `training.recipes.NAMES`, or of a task; None is that of the task, or by the size of
            the model.
        task: see `TransferConfig`.
        settings: such as `training.learning_rate=3e-6`, `lora.rank=8` or `evaluation.every=100`.

    Raises:
        InputError: there is no such model, recipe or task, or it is a zero-shot task.
        ConfigError: there is no such setting, or it makes no sense.
        CheckpointError: the files of the model are damaged.
    """
    own = open_checkpoint(TINY_FOLDER if model == "tiny" else model).config
    named = _of_task(task, own) if task and recipe is None else _named(recipe, own)
    settings = tuple(settings)
    trains_adapter = any(setting.startswith("lora.") for setting in settings)
    config = TransferConfig(
        model=model,
        data=Path(data) if isinstance(data, str) else data,
        output=Path(output),
        task=task,
        recipe=recipe or named.name,
        training=named.training,
        epochs=named.epochs,
        has_final_cap=named.has_final_cap or trains_adapter,
        rules=_rules(task, named),
        evaluation=_evaluation(task),
    )
    return with_settings(config, settings)


def _named(recipe: str | None, own: ModelConfig) -> NamedRecipe:
    is_of_task = recipe is not None and recipe not in NAMES and recipe in tasks.names()
    return _of_task(recipe, own) if recipe is not None and is_of_task else recipe_named(recipe, own)


def _of_task(name: str, own: ModelConfig) -> NamedRecipe:
    task = tasks.load(name)
    if task.recipe is None:
        raise InputError(
            f"{task.title} is asked of a model that learned another task",
            hint=f"transfer {task.transfer_from} instead",
        )
    return transfer_recipe(task_name(name), task.recipe, own)


def _rules(task: str, named: NamedRecipe) -> DataRules:
    if not task:
        return DataRules(text_length=named.text_length)
    return DataRules(answers=tasks.load(task).answer_rule, text_length=named.text_length)


def _evaluation(task: str) -> EvaluationSettings:
    if not task:
        return EvaluationSettings()
    return EvaluationSettings(max_new_tokens=tasks.load(task).text_length)


def base_dtype(config: TransferConfig, device: torch.device) -> Dtype:
    """In which dtype the weights are loaded: float32 where they are trained.

    Below an adapter they stay in the dtype of their file, if the device multiplies bfloat16 fast.
    """
    may_be_half = config.lora is not None and config.training.precision != "float32"
    return "auto" if may_be_half and bfloat16_is_fast(device) else "float32"
