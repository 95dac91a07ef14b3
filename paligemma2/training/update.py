"""From gradients to new weights: schedule, clipping, optimisers, and which updates are left out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

import torch
from torch import Tensor, nn

from paligemma2.errors import WorkError
from paligemma2.training.optimizer import build_optimizers
from paligemma2.training.recipe import Recipe
from paligemma2.training.schedule import learning_rate_factor

_NORMS, _LEAST_NORMS = 100, 20


@dataclass
class Counters:
    """What went wrong in a run so far, and the norms of its last gradients, by which spikes are known.

    Updates are counted here, examples by whoever makes the batches.

    Attributes:
        not_finite: updates left out because the loss or the gradient was not a number.
        spikes: gradients far longer than those before.
        skipped: updates left out in all.
        skipped_in_a_row: of them, the last ones.
        skipped_examples: examples that could not be used, for which others stood.
        cut_suffixes: examples whose answer was too long and was cut.
        norms: of the last gradients that were applied.
    """

    not_finite: int = 0
    spikes: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    skipped_examples: int = 0
    cut_suffixes: int = 0
    norms: list[float] = field(default_factory=list)

    def as_values(self) -> dict[str, object]:
        """What JSON can hold, for a saved state."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> "Counters":
        """The counters of a saved state."""
        return cls(**values)  # type: ignore[arg-type]


class Update:
    """Applies the gradients of a module's parameters, once a step.

    Args:
        module: its trainable parameters are updated in place.
        recipe: the hyper-parameters.
    """

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        self._recipe = recipe
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizers = build_optimizers(module, recipe)
        self._rates = [[float(group["lr"]) for group in o.param_groups] for o in self.optimizers]
        self.counters = Counters()

    def clear_gradients(self) -> None:
        """Let go of all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def apply(self, step: int, loss: float) -> tuple[float, bool]:
        """One update by the gradients that are there.

        Args:
            step: 0 for the first.
            loss: that the gradients are of.

        Returns:
            The norm of the gradient before it was clipped, and whether the update was applied.

        Raises:
            WorkError: too many updates in a row were left out.
        """
        norm = gradient_norm(self.parameters) if math.isfinite(loss) else math.nan
        reason = self._reason_to_skip(loss, norm)
        if reason:
            self._skip(step, reason)
            return norm, False
        self.counters.skipped_in_a_row = 0
        self.counters.norms = [*self.counters.norms[1 - _NORMS :], norm]
        if norm > self._recipe.grad_clip:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            torch._foreach_mul_(gradients, self._recipe.grad_clip / norm)
        factor = learning_rate_factor(step, self._recipe)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if isinstance(group["lr"], Tensor):  # torchao compiles its step, with the rate as an input
                    group["lr"].fill_(rate * factor)
                else:
                    group["lr"] = rate * factor
            optimizer.step()
        # Fused optimisers change weights without counting it, and encoded pictures are kept by that count.
        torch.autograd.graph.increment_version(self.parameters)
        return norm, True

    def learning_rate(self, step: int) -> float:
        """The rate of the first optimiser in an update."""
        return self._recipe.learning_rate * learning_rate_factor(step, self._recipe)

    def _reason_to_skip(self, loss: float, norm: float) -> str:
        if not math.isfinite(loss) or not math.isfinite(norm):
            self.counters.not_finite += 1
            what, value = ("loss", loss) if not math.isfinite(loss) else ("norm of the gradient", norm)
            return f"the {what} is {value}"
        known = self.counters.norms
        if len(known) >= _LEAST_NORMS and norm > self._recipe.spike_factor * median(known):
            self.counters.spikes += 1
            if self._recipe.skip_spikes:
                return f"the norm of the gradient is {norm:.3g}, its median was {median(known):.3g}"
        return ""

    def _skip(self, step: int, reason: str) -> None:
        self.counters.skipped += 1
        self.counters.skipped_in_a_row += 1
        count = self.counters.skipped_in_a_row
        if count >= self._recipe.max_skipped:
            raise WorkError(
                f"{reason} at step {step}; {count} updates in a row were left out",
                hint="try a lower learning rate in another folder; states saved before are untouched",
            )


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """The Euclidean norm of all gradients together."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm: Tensor = nn.utils.get_total_norm(gradients)
    return float(norm)
