"""What an adapter that is to be trained looks like: the layers that it changes, with what rank and scale.

The defaults change all linear layers of the decoder and nothing else. The names of `q_proj`, `k_proj` and
`v_proj` are in the image encoder too, so layers are looked for in the named parts of the model alone.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from paligemma2.errors import ConfigError

PARTS: Mapping[str, tuple[str, ...]] = {
    "decoder": ("language_model.",),
    "projector": ("multi_modal_projector.",),
    "vision_tower": ("vision_tower.",),
    "image": ("vision_tower.", "multi_modal_projector."),
}
"""How the names of the layers of a part begin; "image" means both, as in the recipes of the model card."""


def fits_end(pattern: str, layer: str) -> bool:
    """Whether a regular expression fits a layer's name from the beginning of one of its levels to the end.

    So `peft` 0.21 reads the keys of its patterns (`utils.other.get_pattern_key`).
    """
    return re.match(rf"(.*\.)?({pattern})$", layer) is not None


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """How to begin an adapter of low rank (arXiv:2106.09685).

    Layers are called as in our models: `language_model.layers.0.self_attn.q_proj`. Every pattern is a regular
    expression for the end of such a name, as `q_proj`, `self_attn.*` or `layers.(0|1).mlp.up_proj`.

    Attributes:
        rank: of the change of each layer.
        alpha: scales the change, by `alpha / rank`.
        is_rank_stabilized: by `alpha / sqrt(rank)` instead (rsLoRA, arXiv:2312.03732).
        rank_pattern: other ranks, by pattern; the first that fits a layer counts.
        alpha_pattern: other alphas, in the same way.
        dropout: share of a layer's inputs that its change does not see in training.
        parts: where layers are looked for: "decoder", "projector", "vision_tower", or "image" for the last
            two.
        targets: patterns of the layers that are changed; none changes all linear layers of the parts.

    Raises:
        ConfigError: a number is out of range, a part is not known, or a pattern cannot be read.
    """

    rank: int = 8
    alpha: float = 8.0
    is_rank_stabilized: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    dropout: float = 0.0
    parts: tuple[str, ...] = ("decoder",)
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for rank in (self.rank, *self.rank_pattern.values()):
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise ConfigError(f"a rank of the adapter is {rank!r}", hint="give a whole number above zero")
        for alpha in (self.alpha, *self.alpha_pattern.values()):
            if not alpha > 0:
                raise ConfigError(f"an alpha of the adapter is {alpha!r}", hint="give a number above zero")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"the dropout is {self.dropout}", hint="give a share from 0 up to 1")
        if not self.parts:
            raise ConfigError("the adapter is in no part of the model", hint=_PARTS_HINT)
        for part in self.parts:
            if part not in PARTS:
                raise ConfigError(f"there is no part {part!r}", hint=_PARTS_HINT)
        for pattern in (*self.targets, *self.rank_pattern, *self.alpha_pattern):
            _check_pattern(pattern)

    def layers_among(self, linear_layers: Collection[str]) -> tuple[str, ...]:
        """The layers that are changed, in the order of `linear_layers`.

        Args:
            linear_layers: our names of all linear layers of the model.

        Raises:
            ConfigError: a target or pattern fits none of them; the hint names the nearest.
        """
        beginnings = tuple(beginning for part in self.parts for beginning in PARTS[part])
        inside = [layer for layer in linear_layers if layer.startswith(beginnings)]
        for target in self.targets:
            if not any(fits_end(target, layer) for layer in inside):
                raise _no_layer("the target", target, inside, linear_layers)
        changed = [
            layer
            for layer in inside
            if not self.targets or any(fits_end(target, layer) for target in self.targets)
        ]
        for pattern in (*self.rank_pattern, *self.alpha_pattern):
            if not any(fits_end(pattern, layer) for layer in changed):
                raise _no_layer("the pattern", pattern, changed, (*inside, *linear_layers))
        return tuple(changed)

    def rank_of(self, layer: str) -> int:
        """The rank of the change of a layer."""
        return next((rank for key, rank in self.rank_pattern.items() if fits_end(key, layer)), self.rank)

    def alpha_of(self, layer: str) -> float:
        """The alpha of a layer."""
        return next((alpha for key, alpha in self.alpha_pattern.items() if fits_end(key, layer)), self.alpha)


_PARTS_HINT = f"use one or more of {', '.join(PARTS)}"
_SHOWN = 3


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"{pattern!r} is not a regular expression: {error}", hint="give the end of a layer's name"
        ) from error


def _no_layer(what: str, pattern: str, inside: Collection[str], all_layers: Collection[str]) -> ConfigError:
    """What to say of a pattern that fits no layer where it should."""
    outside = next((layer for layer in all_layers if fits_end(pattern, layer)), None)
    if outside is not None:
        hint = f"it fits {outside}; name its part or target too"
    else:
        ends = sorted({".".join(layer.split(".")[-levels:]) for layer in inside for levels in (1, 2)})
        near = difflib.get_close_matches(pattern, [*ends, *inside], n=_SHOWN, cutoff=0.4)
        short = sorted({layer.rpartition(".")[2] for layer in inside})
        hint = f"the nearest are {', '.join(near)}" if near else f"layers end in {', '.join(short)}"
    return ConfigError(f"{what} {pattern!r} fits no linear layer that may be changed", hint=hint)
