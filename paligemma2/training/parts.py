"""Parts of the model by the names that recipes use for them."""

import difflib
import re
from collections.abc import Iterable

from torch import nn

from paligemma2.errors import ConfigError
from paligemma2.model.lora_settings import PARTS as LAYER_PARTS

PARTS = {**LAYER_PARTS, "embedding": ("language_model.embed_tokens.",)}
"""How the names of the parameters of a part begin."""


def belongs_to(parameter: str, part: str) -> bool:
    """Whether a parameter is in a part.

    Args:
        parameter: its name in the model, such as `vision_tower.post_layernorm.weight`.
        part: a name of `PARTS`, or a regular expression that the whole name fits.
    """
    if part in PARTS:
        return parameter.startswith(PARTS[part])
    return re.fullmatch(part, parameter) is not None


def check_parts(parts: Iterable[str], parameters: Iterable[str]) -> None:
    """Check that each part holds something.

    Raises:
        ConfigError: a part is no regular expression, or no parameter is in it.
    """
    names = list(parameters)
    for part in parts:
        try:
            is_found = any(belongs_to(name, part) for name in names)
        except re.error as error:
            raise ConfigError(f"{part!r} is not a regular expression: {error}", hint=_HINT) from error
        if not is_found:
            near = difflib.get_close_matches(part, [*PARTS, *names], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? Otherwise {_HINT}" if near else _HINT
            raise ConfigError(f"no parameter of the model is in {part!r}", hint=hint)


def freeze(module: nn.Module, parts: Iterable[str]) -> None:
    """Leave some parts of a module untrained.

    Raises:
        ConfigError: a part holds nothing.
    """
    parts = tuple(parts)
    check_parts(parts, (name for name, _ in module.named_parameters()))
    for name, parameter in module.named_parameters():
        if any(belongs_to(name, part) for part in parts):
            parameter.requires_grad_(False)


_HINT = f"use one of {', '.join(PARTS)}, or a regular expression for whole names of parameters"
