"""What a transfer is asked to do."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.configuration import with_settings
from paligemma2.data.sources import DataSource
from paligemma2.data.training_data import DataRules
from paligemma2.errors import ConfigError
from paligemma2.inference.devices import Dtype
from paligemma2.jobs.transfer_evaluation import EvaluationSettings
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.weight_forms import Quantization
from paligemma2.training.recipe import Recipe
from paligemma2.training.recipes import SMALL, recipe_named
from paligemma2.training.tracking import TrackingSettings
from paligemma2.training.trainer import bfloat16_is_fast


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What `run` needs; `configure` makes one from a named recipe.

    Attributes:
        model: "tiny", a folder, an npz file or a hub id.
        data: folder or file in any format of `data.registry`, or sources of a weighted mixture.
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
    recipe: str = "small"
    training: Recipe = SMALL.training
    epochs: float | None = None
    has_final_cap: bool = True
    lora: LoraSettings | None = None
    quantize: Quantization | None = None
    rules: DataRules = field(default_factory=DataRules)
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
    settings: Iterable[str] = (),
) -> TransferConfig:
    """The configuration of a named recipe for a model, with some settings changed.

    Args:
        model: see `TransferConfig`.
        data: see `TransferConfig`.
        output: see `TransferConfig`.
        recipe: a name of `training.recipes.NAMES`; None chooses by the size of the model.
        settings: such as `training.learning_rate=3e-6`, `lora.rank=8` or `evaluation.every=100`.

    Raises:
        InputError: there is no such model or recipe.
        ConfigError: there is no such setting, or it makes no sense.
        CheckpointError: the files of the model are damaged.
    """
    named = recipe_named(recipe, open_checkpoint(TINY_FOLDER if model == "tiny" else model).config)
    settings = tuple(settings)
    trains_adapter = any(setting.startswith("lora.") for setting in settings)
    config = TransferConfig(
        model=model,
        data=Path(data) if isinstance(data, str) else data,
        output=Path(output),
        recipe=recipe or named.name,
        training=named.training,
        epochs=named.epochs,
        has_final_cap=named.has_final_cap or trains_adapter,
        rules=DataRules(text_length=named.text_length),
    )
    return with_settings(config, settings)


def base_dtype(config: TransferConfig, device: torch.device) -> Dtype:
    """In which dtype the weights are loaded: float32 where they are trained.

    Below an adapter they stay in the dtype of their file, if the device multiplies bfloat16 fast.
    """
    may_be_half = config.lora is not None and config.training.precision != "float32"
    return "auto" if may_be_half and bfloat16_is_fast(device) else "float32"
