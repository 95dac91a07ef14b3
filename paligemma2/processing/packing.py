"""Several examples in one row, so that little of a batch is padding.

Examples in a row do not see each other (`PrefixLayout`), each has positions of its own, and in the loss each
counts as it would in a row of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.prefix_mask import PrefixLayout, Span
from paligemma2.processing.processor import ModelInputs


def pack(inputs: ModelInputs, row_length: int, config: ModelConfig) -> ModelInputs:
    """The same examples in fewer rows.

    Args:
        inputs: for training.
        row_length: the most tokens in a row; rows are padded on the right to the longest.
        config: of the model; says what is an image token and what is padding.

    Returns:
        Rows of one or more examples; `ids` and pictures are in the order in which the examples now stand.

    Raises:
        InputError: an example is longer than a row.
    """
    spans = inputs.layout.spans
    rows = first_fit_decreasing([span.stop - span.start for span in spans], row_length)
    longest = max(sum(spans[i].stop - spans[i].start for i in row) for row in rows)
    shape = (len(rows), longest)
    token_ids = torch.full(shape, config.pad_token_id)
    segments, is_prefix = torch.zeros(shape, dtype=torch.int32), torch.zeros(shape, dtype=torch.bool)
    weights = None if inputs.loss_weights is None else torch.zeros(shape)
    for place, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row, start=1):
            source, tokens = spans[example].row, slice(spans[example].start, spans[example].stop)
            here = slice(start, start + tokens.stop - tokens.start)
            token_ids[place, here] = inputs.token_ids[source, tokens]
            segments[place, here] = number
            is_prefix[place, here] = inputs.layout.is_prefix[source, tokens]
            if weights is not None and inputs.loss_weights is not None:
                weights[place, here] = inputs.loss_weights[source, tokens]
            start = here.stop
    order = [example for row in rows for example in row]
    pictures = _pictures(inputs, spans, config)
    return ModelInputs(
        token_ids=token_ids,
        pixel_values=inputs.pixel_values,
        image_index=torch.cat([pictures[example] for example in order]),
        layout=PrefixLayout.from_segments(segments, is_prefix),
        loss_weights=weights,
        ids=tuple(inputs.ids[example] for example in order),
    )


def first_fit_decreasing(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Which examples share a row: the longest first, each into the first row that has room for it.

    At most 11/9 of the fewest rows possible, and one (D. S. Johnson, 1973). Equal lengths keep their order,
    so the result depends on the lengths alone.

    Args:
        lengths: of the examples, in tokens.
        row_length: of a row.

    Returns:
        For each row the indices of its examples.

    Raises:
        InputError: an example is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for example in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[example]
        if length > row_length:
            raise InputError(
                f"an example has {length} tokens, a row of packed examples {row_length}",
                hint=f"give rows of {length} tokens or more (training.packed_length), or shorten the text",
            )
        fitting = next((row for row, left in enumerate(room) if left >= length), None)
        if fitting is None:
            rows.append([example])
            room.append(row_length - length)
        else:
            rows[fitting].append(example)
            room[fitting] -= length
    return rows


def _pictures(inputs: ModelInputs, spans: Sequence[Span], config: ModelConfig) -> tuple[Tensor, ...]:
    """The places of each example's pictures in `pixel_values`."""
    is_image = inputs.token_ids == config.image_token_id
    slots = [int(is_image[row, start:stop].sum()) // config.num_image_tokens for row, start, stop in spans]
    return torch.split(inputs.image_index, slots)
