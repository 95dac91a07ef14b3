"""The learning rate over a run, as a factor on the base rate."""

import math


def learning_rate_factor(step: int, *, total_steps: int, warmup_steps: int) -> float:
    """The factor on the peak learning rate for one update.

    Linear over `warmup_steps` up to 1; then half a cosine down to 0 (big_vision's transfers).

    Args:
        step: 0 for the first update.
        total_steps: number of updates in all.
        warmup_steps: updates until the factor is 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
