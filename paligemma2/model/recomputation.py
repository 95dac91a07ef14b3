"""Activation checkpointing: blocks that keep less of what they compute, and compute it again to go back."""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from paligemma2.model.config import Recomputation


def run_block(block: Callable[..., Tensor], recomputation: Recomputation, *inputs: Any) -> Tensor:
    """`block(*inputs)`, of which so much is computed again on the way back.

    Random numbers are drawn again as they were, so dropout drops the same, and context variables are again
    what they were: the adapters that rows go through.
    """
    if recomputation == "none" or not torch.is_grad_enabled():
        return block(*inputs)
    options: dict[str, Any] = {"use_reentrant": False}
    if recomputation == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _keep_products)
    context = copy_context()

    def run(*inputs: Any) -> Tensor:
        return context.copy().run(block, *inputs)

    result: Tensor = checkpoint(run, *inputs, **options)
    return result


def _keep_products(context: object, op: object, *args: object, **kwargs: object) -> CheckpointPolicy:
    is_product = op in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
    return CheckpointPolicy.MUST_SAVE if is_product else CheckpointPolicy.PREFER_RECOMPUTE
