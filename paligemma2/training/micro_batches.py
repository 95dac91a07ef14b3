"""A batch in parts that are computed one after the other."""

from collections.abc import Sequence

import torch

from paligemma2.model.config import ModelConfig
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.packing import pack
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.recipe import Recipe


def in_parts(inputs: ModelInputs, *, recipe: Recipe, config: ModelConfig) -> Sequence[ModelInputs]:
    """What a trainer computes of a batch, one after the other: its parts, packed if the recipe says so.

    Raises:
        InputError: an example is longer than a packed row.
    """
    parts = split_rows(inputs, recipe.micro_batch_size, config)
    length = recipe.packed_length
    return parts if length is None else [pack(part, length, config) for part in parts]


def split_rows(inputs: ModelInputs, size: int | None, config: ModelConfig) -> Sequence[ModelInputs]:
    """The rows of a batch, some at a time, each part with its own pictures and as long as its longest row.

    Args:
        inputs: padded on the right.
        size: rows of a part; None for all at once.
        config: of the model.
    """
    num_rows = len(inputs.token_ids)
    if size is None or size >= num_rows:
        return (inputs,)
    pictures = inputs.pictures(config)
    return [_rows(inputs, slice(at, at + size), pictures[at : at + size]) for at in range(0, num_rows, size)]


def _rows(inputs: ModelInputs, rows: slice, pictures: Sequence[torch.Tensor]) -> ModelInputs:
    layout = inputs.layout
    longest = int(layout.is_valid[rows].sum(dim=1).max())
    distinct, image_index = torch.unique(torch.cat(list(pictures)), return_inverse=True)
    return ModelInputs(
        token_ids=inputs.token_ids[rows, :longest],
        pixel_values=inputs.pixel_values[distinct],
        image_index=image_index,
        layout=PrefixLayout(
            layout.segments[rows, :longest],
            layout.is_prefix[rows, :longest],
            layout.positions[rows, :longest],
        ),
        loss_weights=None if inputs.loss_weights is None else inputs.loss_weights[rows, :longest],
        ids=inputs.ids[rows] if len(inputs.ids) == len(inputs.token_ids) else inputs.ids,
    )
