"""The hyper-parameters of one run."""

from dataclasses import dataclass

from paligemma2.errors import ConfigError
from paligemma2.training.loss import Average
from paligemma2.training.optimizer import OptimizerName


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of one run; defaults are those of the reference's transfers.

    Attributes:
        steps: updates in all.
        batch_size: examples per update.
        optimizer: "adamw", or "muon" for small models from nothing.
        learning_rate: peak rate of AdamW.
        muon_learning_rate: peak rate of Muon.
        weight_decay: decoupled; multiplied by the learning rate.
        warmup_fraction: share of the steps with a rising rate; in the rest it falls to zero.
        grad_clip: largest global norm of the gradient.
        label_smoothing: probability taken from the target.
        average: loss as mean over examples ("example") or over tokens ("token").
        average_decay: of the moving average of the weights, or None for none.
        location_sigma: soft targets for location tokens, in location steps, or None (the real recipe).
        checkpoint_every: updates between saved states.
        log_every: updates between log lines.
    """

    steps: int
    batch_size: int = 32
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-5
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.0
    warmup_fraction: float = 0.05
    grad_clip: float = 1.0
    label_smoothing: float = 0.0
    average: Average = "example"
    average_decay: float | None = None
    location_sigma: float | None = None
    checkpoint_every: int = 200
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate", "grad_clip", "checkpoint_every", "log_every"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give a number above zero")
        if not 0 <= self.warmup_fraction < 1:
            raise ConfigError(
                f"warmup_fraction is {self.warmup_fraction}", hint="give a share from 0 up to 1"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing is {self.label_smoothing}", hint="give a share from 0 up to 1"
            )
        if self.average_decay is not None and not 0 <= self.average_decay < 1:
            raise ConfigError(f"average_decay is {self.average_decay}", hint="give a share from 0 up to 1")
        if self.location_sigma is not None and not self.location_sigma > 0:
            raise ConfigError(f"location_sigma is {self.location_sigma}", hint="give a number above zero")

    @property
    def warmup_steps(self) -> int:
        """Updates until the learning rate is at its peak, at least one."""
        return max(1, round(self.steps * self.warmup_fraction))
