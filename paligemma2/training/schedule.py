"""The learning rate over a run, as a factor on the base rate (big_vision `utils.py`)."""

import math

from paligemma2.training.recipe import Recipe


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """The factor on the peak learning rate for one update.

    Linear from 0 up to 1 over `recipe.warmup_steps`: the very first update has the rate 0. Then "cosine" is
    half a cosine down to 0, and "rsqrt" is `1 / sqrt(1 + updates since / timescale)`, which goes on for ever,
    so that a run can be continued and cooled down whenever it is to end: `recipe.cooldown_steps`.

    Args:
        step: 0 for the first update.
        recipe: its `schedule`, its steps and shares.
    """
    warmup, total = recipe.warmup_steps, recipe.steps
    since = max(0, step - warmup)
    if recipe.schedule == "rsqrt":
        factor = 1.0 / math.sqrt(1.0 + since / recipe.rsqrt_timescale)
    else:
        progress = min(1.0, since / (total - warmup))
        factor = 0.5 * (1.0 + math.cos(math.pi * progress))
    if warmup:
        factor *= min(1.0, step / warmup)
    if recipe.cooldown_steps:
        factor *= min(1.0, max(0, total - step) / recipe.cooldown_steps)
    return factor
