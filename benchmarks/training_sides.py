"""The two sides of `train_vs_transformers.py`, and the batches that they train on."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from paligemma2.checkpoint.load import load_model
from paligemma2.model.config import ModelConfig, Recomputation
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.objective import SuffixObjective

_FIRST_FREE_ID = 3


class Length(NamedTuple):
    """Pictures and tokens of an example; bos and separator count as prefix, eos as suffix."""

    images: int
    prefix: int
    suffix: int


def random_batch(config: ModelConfig, lengths: Sequence[Length], seed: int = 0) -> ModelInputs:
    """Pictures of noise and random tokens, padded on the right to the longest."""
    generator = torch.Generator().manual_seed(seed)
    limit = config.num_text_rows
    totals = [each.images * config.num_image_tokens + each.prefix + each.suffix for each in lengths]
    token_ids = torch.full((len(lengths), max(totals)), config.pad_token_id)
    roles = torch.zeros_like(token_ids)
    for row, (each, total) in enumerate(zip(lengths, totals, strict=True)):
        slots = each.images * config.num_image_tokens
        token_ids[row, :slots] = config.image_token_id
        text = torch.randint(_FIRST_FREE_ID, limit, (total - slots,), generator=generator)
        text[0], text[-1] = config.bos_token_id, config.eos_token_id
        token_ids[row, slots:total] = text
        roles[row, : total - each.suffix] = 1
        roles[row, total - each.suffix : total] = 2
    images = sum(each.images for each in lengths)
    size = config.vision.image_size
    return ModelInputs(
        token_ids=token_ids,
        pixel_values=torch.rand(images, 3, size, size, generator=generator) * 2 - 1,
        image_index=torch.arange(images),
        layout=PrefixLayout.from_flags(roles > 0, roles == 1),
        loss_weights=(roles == 2).float(),
        ids=("",) * len(lengths),
    )


def autocast_of(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Products in bfloat16 on weights in float32, or everything in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


class Ours:
    """This package, with the mean over tokens that transformers has.

    Args:
        folder: of the checkpoint.
        recomputation: of its blocks.
        device: of the weights, in float32.
    """

    def __init__(self, folder: Path, recomputation: Recomputation, device: str = "cpu") -> None:
        loaded = load_model(folder, dtype=torch.float32)
        self.model: nn.Module = loaded.model.to(device).train()
        loaded.model.prepare_training(recomputation=recomputation)
        self._objective = SuffixObjective(loaded.model, average="token")

    def loss(self, inputs: ModelInputs) -> Tensor:
        """The loss of the batch, with gradient."""
        return self._objective(inputs)


class Peer:
    """transformers, as a user would call it."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import PaliGemmaForConditionalGeneration

        loaded = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model: nn.Module = loaded.to(device).train()
        self._device = device

    def loss(self, inputs: ModelInputs) -> Tensor:
        """The loss of the batch, with gradient."""
        inputs = inputs.to(self._device)
        is_valid, is_prefix = inputs.layout.is_valid, inputs.layout.is_prefix
        assert inputs.loss_weights is not None
        output = self.model(
            input_ids=inputs.token_ids,
            pixel_values=inputs.pixel_values[inputs.image_index],
            attention_mask=is_valid.long(),
            token_type_ids=(is_valid & ~is_prefix).long(),
            labels=inputs.token_ids.masked_fill(inputs.loss_weights == 0, -100),
        )
        loss: Tensor = output.loss
        return loss


def step(side: Ours | Peer, inputs: ModelInputs, precision: str) -> float:
    """One forward and backward pass; gradients stay where an optimiser would find them."""
    side.model.zero_grad(set_to_none=True)
    with autocast_of(next(side.model.parameters()).device, precision):
        loss = side.loss(inputs)
    loss.backward()
    return loss.item()
