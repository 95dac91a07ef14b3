"""How near a checkpoint with an adapter merged into it is to the base with the adapter beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from paligemma2.checkpoint.adapter import read_adapter
from paligemma2.checkpoint.load import load_model
from paligemma2.errors import InputError
from paligemma2.inference.devices import device_named, form_for
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import DEFAULT_MAX_NEW_TOKENS
from paligemma2.jobs.held_out import answers, held_out_examples, metric_of
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import attach, using_adapters
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.types import Example

_NAME = "merged"
_ROWS, _TEXT_TOKENS = 2, 16


@dataclass(frozen=True, kw_only=True)
class ScoreChange:
    """A metric of held-out examples.

    Attributes:
        metric: its name, see `held_out.metric_of`.
        before: with the base and the adapter beside it.
        after: with the merged weights.
        examples: how many were answered.
    """

    metric: str
    before: float
    after: float
    examples: int


@dataclass(frozen=True, kw_only=True)
class LogitChange:
    """How far logits of random pictures and texts are from those of the base and the adapter beside it.

    Attributes:
        largest: of all differences.
        largest_logit: of the sizes of the logits themselves.
    """

    largest: float
    largest_logit: float


Change: TypeAlias = ScoreChange | LogitChange


def examples_for(data: Path, destination: Path) -> Sequence[Example]:
    """The examples that a merged checkpoint is to be scored on, read before it is written.

    Args:
        data: a data set in any format, of which the held-out examples are taken.
        destination: where the checkpoint will be.

    Raises:
        InputError: it will be a `.npz`, which has no tokenizer.
        DataError: the examples cannot be used.
    """
    if destination.suffix == ".npz":
        raise InputError(
            f"{destination} would have no tokenizer to answer examples with", hint="give a folder, or no data"
        )
    return held_out_examples(data)


def compare(
    source: str | Path,
    adapter: str | Path,
    merged: Path,
    examples: Sequence[Example] | None = None,
    on_event: Callable[[str], None] = lambda message: None,
) -> Change:
    """What merging changed: the merged checkpoint against its base with the adapter beside it.

    Args:
        source: the base.
        adapter: a folder of `peft`.
        merged: what `convert.run` wrote from them.
        examples: to be scored; None compares logits.
        on_event: called with what is done next.

    Raises:
        InputError: a prompt does not fit.
        ImageError: a picture cannot be read.
        CheckpointError: a checkpoint or the adapter cannot be read.
    """
    if examples is None:
        on_event("comparing logits with those of the adapter beside the base")
        return _logit_change(source, adapter, merged)
    metric, score = metric_of(examples)
    on_event(f"answering {len(examples)} held-out examples with the adapter beside the base")
    before = score(answers(load(source, adapter=adapter), examples, DEFAULT_MAX_NEW_TOKENS))
    on_event("answering them with the merged weights")
    after = score(answers(load(merged), examples, DEFAULT_MAX_NEW_TOKENS))
    return ScoreChange(metric=metric, before=before, after=after, examples=len(examples))


def _logit_change(source: str | Path, adapter: str | Path, merged: Path) -> LogitChange:
    device = device_named("auto")
    form = partial(form_for, device)
    base = load_model(source, device=device, form_for=form)
    config = base.config
    attach(base.model, {_NAME: read_adapter(adapter, config)})
    with using_adapters([_NAME] * _ROWS, device):
        before = _logits(base.model)
    del base  # or two models would be in memory
    after = _logits(
        load_model(merged, config=config, device=device, form_for=form, may_be_quantized=True).model
    )
    return LogitChange(largest=(after - before).abs().max().item(), largest_logit=before.abs().max().item())


@torch.inference_mode()
def _logits(model: PaliGemma2Model) -> Tensor:
    """Of random texts behind random pictures, without filler: float32 [rows, text tokens, text rows]."""
    token_ids, pixel_values = (each.to(model.device) for each in _random_inputs(model.config))
    layout = PrefixLayout.from_flags(torch.ones_like(token_ids) > 0, torch.ones_like(token_ids) > 0)
    hidden = model.hidden_states(token_ids, model.encode_images(pixel_values), layout)
    return model.language_model.logits(hidden[:, -_TEXT_TOKENS:])[..., : model.config.num_text_rows]


def _random_inputs(config: ModelConfig) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    slots = torch.full((_ROWS, config.num_image_tokens), config.image_token_id)
    words = torch.randint(3, config.num_text_rows, (_ROWS, _TEXT_TOKENS), generator=generator)
    size = config.vision.image_size
    pixel_values = torch.rand(_ROWS, 3, size, size, generator=generator) * 2 - 1
    return torch.cat((slots, words), dim=1), pixel_values
