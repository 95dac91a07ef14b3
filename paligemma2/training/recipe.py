"""The hyper-parameters of one run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from paligemma2.errors import ConfigError
from paligemma2.model.config import Recomputation

Average: TypeAlias = Literal["example", "token"]
"""What counts alike in a batch: every example, however long its suffix is, or every token."""
OptimizerName: TypeAlias = Literal["adamw", "adamw_8bit", "muon"]
DecayRule: TypeAlias = Literal["adamw", "big_vision"]
ScheduleName: TypeAlias = Literal["cosine", "rsqrt"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of one run; defaults are those of the reference's transfers.

    Attributes:
        steps: updates in all.
        batch_size: examples per update.
        micro_batch_size: examples computed at a time; gradients are summed up to those of the whole batch,
            which takes less memory. None computes the batch at once.
        packed_length: longest row in tokens where several examples share a row; None gives each its own.
        recomputation: what blocks compute again on the way back instead of keeping it: "none", "selective"
            (all but the products with weights) or "full".
        optimizer: "adamw", "adamw_8bit" (states of 8 bits, needs the extra `quant`, and on a CPU a C++
            compiler, as its first step is compiled), or "muon" for small models from nothing.
        learning_rate: peak rate of AdamW.
        learning_rate_factors: of parts, by their names or patterns (`training.parts`); the first that fits
            a parameter counts.
        muon_learning_rate: peak rate of Muon.
        weight_decay: decoupled.
        decay_rule: "adamw": all matrices, multiplied by the learning rate; "big_vision": the matrices of the
            image encoder and the projector alone, multiplied by the schedule but not by the learning rate.
        freeze: parts that are not trained, by their names or patterns.
        schedule: "cosine" down to zero, or "rsqrt", the one of pre-training.
        warmup_fraction: share of the steps with a rising rate.
        cooldown_fraction: share of the steps at the end with a rate that falls to zero, beside the schedule.
        rsqrt_timescale: updates after which "rsqrt" has fallen by the square root of two.
        grad_clip: largest global norm of the gradient.
        label_smoothing: probability taken from the target.
        dropout: share of the decoder's activations that are dropped.
        average: loss as mean over examples ("example") or over tokens ("token").
        average_decay: of the moving average of the weights, or None for none.
        location_sigma: soft targets for location tokens, in location steps, or None (the real recipe).
        precision: of matrix products; weights and states are float32. "auto" is bfloat16 where the hardware
            has it.
        spike_factor: a gradient this many times as long as the median of the last ones is counted as a spike.
        skip_spikes: such an update is left out; else it is clipped like any other.
        max_skipped: updates left out in a row after which the run gives up.
        seed: of everything random in the model: dropout.
        checkpoint_every: updates between saved states.
        log_every: updates between log lines.
    """

    steps: int
    batch_size: int = 32
    micro_batch_size: int | None = None
    packed_length: int | None = None
    recomputation: Recomputation = "none"
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-5
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict)
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.0
    decay_rule: DecayRule = "adamw"
    freeze: tuple[str, ...] = ()
    schedule: ScheduleName = "cosine"
    warmup_fraction: float = 0.05
    cooldown_fraction: float = 0.0
    rsqrt_timescale: float = 10_000.0
    grad_clip: float = 1.0
    label_smoothing: float = 0.0
    dropout: float = 0.0
    average: Average = "example"
    average_decay: float | None = None
    location_sigma: float | None = None
    precision: Precision = "auto"
    spike_factor: float = 10.0
    skip_spikes: bool = False
    max_skipped: int = 5
    seed: int = 0
    checkpoint_every: int = 200
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value}", hint="give a number above zero")
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{name} is {value}", hint="give a share from 0 up to 1")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}", hint=f"use one of {', '.join(allowed)}"
                )
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay is {self.weight_decay}", hint="give zero or more")
        for part, factor in self.learning_rate_factors.items():
            if not 0 < factor < math.inf:
                raise ConfigError(
                    f"the learning rate factor of {part!r} is {factor}",
                    hint="give a number above zero; `freeze` leaves a part as it is",
                )

    @property
    def warmup_steps(self) -> int:
        """Updates until the learning rate is at its peak: at least one if any, but fewer than all."""
        if self.warmup_fraction == 0:
            return 0
        return min(max(1, round(self.steps * self.warmup_fraction)), self.steps - 1)

    @property
    def cooldown_steps(self) -> int:
        """Updates at the end whose rate falls to zero beside the schedule."""
        return round(self.steps * self.cooldown_fraction)


_ABOVE_ZERO = (
    "steps",
    "batch_size",
    "micro_batch_size",
    "packed_length",
    "learning_rate",
    "muon_learning_rate",
    "rsqrt_timescale",
    "grad_clip",
    "location_sigma",
    "spike_factor",
    "max_skipped",
    "checkpoint_every",
    "log_every",
)
_CHOICES = {
    "recomputation": get_args(Recomputation),
    "optimizer": get_args(OptimizerName),
    "decay_rule": get_args(DecayRule),
    "schedule": get_args(ScheduleName),
    "average": get_args(Average),
    "precision": get_args(Precision),
}
_SHARES = ("warmup_fraction", "cooldown_fraction", "label_smoothing", "dropout", "average_decay")
