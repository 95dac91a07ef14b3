"""The model of a transfer and who trains it: one process, or those of `torchrun` that share it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.data.training_data import TrainingBatch, TrainingData
from paligemma2.errors import ConfigError
from paligemma2.inference.devices import device_named
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.transfer_config import TransferConfig, base_dtype
from paligemma2.jobs.transfer_evaluation import Together
from paligemma2.jobs.transfer_task import transfer_model_config
from paligemma2.model.lora_training import add_adapter, add_fresh_adapter, fresh_adapter
from paligemma2.model.paligemma2 import PaliGemma2Model, drop_final_cap
from paligemma2.model.processes import join_processes
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.training.image_cache import ImageCache
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.parts import freeze
from paligemma2.training.sharding import fill_shards, shard
from paligemma2.training.team import ALONE, Team
from paligemma2.training.trainer import bfloat16_is_fast

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A model ready to be trained.

    Attributes:
        predictor: with the model.
        objective: the loss of a batch, in which the shares of all processes are.
        weigh: what a part of a batch counts among the others.
        team: the processes that share the model; one by default.
        together: see `Evaluator`.
    """

    predictor: PaliGemma2
    objective: Callable[[ModelInputs], Tensor]
    weigh: Callable[[ModelInputs], float]
    team: Team = ALONE
    together: Together = lambda work: work()


def checkpoint_path(model: str) -> str | Path:
    """What a checkpoint is called in the layers below, which do not know "tiny"."""
    return TINY_FOLDER if model == "tiny" else model


def prepared_model(config: TransferConfig) -> PaliGemma2:
    """The model as it goes into training: with its adapter, and without the cap if the recipe wants that.

    Raises:
        ConfigError: settings of the adapter that do not fit the model.
        CheckpointError: the model cannot be loaded.
    """
    dtype = base_dtype(config, device_named("auto"))
    wanted = None
    if config.task:
        checkpoint = open_checkpoint(checkpoint_path(config.model), compare_head=False, may_be_quantized=True)
        wanted = transfer_model_config(config, checkpoint.config)
    predictor = load(config.model, dtype=dtype, for_training=True, quantize=config.quantize, config=wanted)
    if not config.has_final_cap:
        drop_final_cap(predictor.model)
    if config.lora is not None:
        add_fresh_adapter(predictor.model, config.lora, seed=config.training.seed)
    return predictor


def trainee_alone(config: TransferConfig) -> Trainee:
    """The model that this process trains alone; raises what making it and its objective raises."""
    predictor = prepared_model(config)
    objective = prepared_objective(predictor.model, config)
    return Trainee(predictor=predictor, objective=objective, weigh=objective.weight_of)


def shared_trainee(config: TransferConfig) -> Trainee:
    """The model as the processes of `torchrun` share it; no process ever holds all of it.

    Weights below an adapter are kept in the dtype that they are multiplied in.

    Raises:
        InputError: this process has no others, or no device.
        ConfigError: settings that a shared model cannot have, or a batch that is not the same share for all.
        CheckpointError: the model cannot be loaded.
    """
    mesh, device = join_processes("auto", purpose="a sharded transfer")
    team = Team.on(mesh, device)
    _check(config, team.size)
    checkpoint = open_checkpoint(checkpoint_path(config.model))
    dtype = _compute_dtype(config, device)
    with torch.device("meta"):
        model = PaliGemma2Model(transfer_model_config(config, checkpoint.config))
    if not config.has_final_cap:
        drop_final_cap(model)
    adapter = _attach_fresh_adapter(model.to(dtype), config) if config.lora is not None else {}
    objective = prepared_objective(model, config)
    shared = shard(model, objective, objective.weight_of, mesh, compute_dtype=dtype)
    fill_shards(model, chain(checkpoint.weights.stream(), adapter.items()))
    processor = Processor.from_folder(checkpoint.folder, checkpoint.config)
    predictor = PaliGemma2(model, processor, checkpoint.folder)

    def together(work: Callable[[], _T]) -> _T:
        predictor.forget_pictures()
        return shared.together(work)

    return Trainee(
        predictor=predictor,
        objective=shared,
        weigh=shared.weight_of,
        team=team,
        together=together,
    )


def prepared_objective(model: PaliGemma2Model, config: TransferConfig) -> SuffixObjective:
    """What training minimises, with everything said to the model that its recipe asks for.

    Raises:
        ConfigError: a part to be frozen holds nothing, or outputs of a trained encoder are to be kept.
    """
    recipe = config.training
    model.prepare_training(dropout=recipe.dropout, recomputation=recipe.recomputation)
    freeze(model, recipe.freeze)
    return SuffixObjective(
        model,
        average=recipe.average,
        label_smoothing=recipe.label_smoothing,
        image_cache=ImageCache(int(config.image_cache_gb * 1e9)) if config.image_cache_gb else None,
    )


def shares(
    data: TrainingData,
    team: Team,
    start: int,
    stop: int,
    *,
    num_workers: int,
    on_batch: Callable[[int, int], None],
) -> Iterator[ModelInputs]:
    """This process's share of the batches of steps `start` up to `stop`.

    Args:
        data: whose `batch_size` is the share of one process.
        team: the processes.
        start: first step.
        stop: step to end before.
        num_workers: see `TrainingData.batches`.
        on_batch: told, before each batch, how many examples of it in all processes others stand for, and how
            many suffixes are cut.

    Raises:
        PaliGemmaError: what `TrainingData.batches` raises; where it does so in one process, all end.
    """
    counts: list[tuple[int, int]] = []

    def note(step: int, batch: TrainingBatch) -> None:
        counts.append((len(batch.skipped), batch.num_cut))

    made = data.batches(
        start, stop, num_workers=num_workers, process=team.rank, processes=team.size, on_batch=note
    )
    with closing(made):
        for _ in range(start, stop):
            inputs: list[ModelInputs] = []

            def take(inputs: list[ModelInputs] = inputs) -> tuple[int, int]:
                inputs.append(next(made))
                return counts.pop()

            every = team.run(take)
            on_batch(sum(skipped for skipped, _ in every), sum(cut for _, cut in every))
            yield inputs.pop()


def _check(config: TransferConfig, processes: int) -> None:
    recipe = config.training
    if recipe.batch_size % processes:
        raise ConfigError(
            f"{processes} processes cannot have equal shares of a batch of {recipe.batch_size} examples",
            hint=f"give a batch size that {processes} divides",
        )
    refused = {
        "quantize": config.quantize is not None,
        "image_cache_gb": bool(config.image_cache_gb),
        f"training.optimizer={recipe.optimizer}": recipe.optimizer != "adamw",
    }
    for setting, is_set in refused.items():
        if is_set:
            raise ConfigError(f"{setting} is for a model that is not sharded", hint="leave one of them out")


def _compute_dtype(config: TransferConfig, device: torch.device) -> torch.dtype:
    wanted = config.training.precision
    if wanted == "bfloat16" or (wanted == "auto" and bfloat16_is_fast(device)):
        return torch.bfloat16
    return torch.float32


def _attach_fresh_adapter(model: PaliGemma2Model, config: TransferConfig) -> dict[str, Tensor]:
    """Put an adapter into a model on the meta device; its weights, by the names that they have there."""
    assert config.lora is not None
    adapter = fresh_adapter(model.config, config.lora, seed=config.training.seed)
    add_adapter(model, adapter, dropout=config.lora.dropout)
    return {
        f"{layer}.{part}": tensor
        for layer, change in adapter.changes.items()
        for part, tensor in (("lora_a", change.a), ("lora_b", change.b))
    }
