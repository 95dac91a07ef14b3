"""Two recipes for data of one's own, and what the recipes of benchmarks are made of.

Those of the card's transfers stand in `paligemma2.tasks`. They are PaliGemma's (arXiv:2407.07726, appendix J;
big_vision `configs/proj/paligemma/transfers`), with the learning rates of PaliGemma 2 for each size
(arXiv:2412.03555, table 14: the best mean over the rows of the card that a transfer gives; of equal ones the
smaller).
"""

from dataclasses import dataclass
from typing import TypeAlias

from paligemma2.errors import InputError
from paligemma2.model.config import ModelConfig
from paligemma2.training.recipe import Recipe

ByResolution: TypeAlias = float | tuple[float, float, float]
"""One value, or one each for 224, 448 and 896 pixels."""
_RESOLUTIONS = (224, 448, 896)
_WIDTHS = (2304, 3584, 4608)
"""Of the decoders of the 3B, the 10B and the 28B model."""


@dataclass(frozen=True, kw_only=True)
class NamedRecipe:
    """A recipe, and what else belongs to it.

    Attributes:
        name: one of `NAMES`.
        training: the hyper-parameters; `steps` counts where `epochs` is None.
        epochs: passes over the data, which give the number of updates.
        text_length: longest text in tokens; None for all that fits.
        has_final_cap: whether the output layer keeps its soft-cap; big_vision's transfers go without.
    """

    name: str
    training: Recipe
    epochs: float | None = None
    text_length: int | None = None
    has_final_cap: bool = True


@dataclass(frozen=True, kw_only=True)
class TransferRecipe:
    """The hyper-parameters of one of the card's transfers.

    Attributes:
        text_length: longest text in tokens, of prompt and answer together.
        epochs: passes over the data.
        batch_size: examples per update.
        learning_rate: peak, of PaliGemma 1.
        paligemma2: peak for the 3B, 10B and 28B model; None where the paper has none.
        alternatives: for the same sizes, other rates that were the best of one row, or as good.
        weight_decay: taken off kernels with each update, times the schedule alone.
        dropout: in the decoder.
        label_smoothing: how much of the target is spread over the vocabulary.
        is_image_frozen: whether the image encoder stays as it is.
    """

    text_length: int
    epochs: ByResolution
    batch_size: ByResolution
    learning_rate: ByResolution
    paligemma2: tuple[float | None, float | None, float | None]
    alternatives: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]] = ((), (), ())
    weight_decay: ByResolution = 0.0
    dropout: ByResolution = 0.0
    label_smoothing: float = 0.0
    is_image_frozen: bool | tuple[bool, bool, bool] = False


OWN = NamedRecipe(
    name="own",
    training=Recipe(steps=1, batch_size=32, learning_rate=1e-5, weight_decay=3e-7, decay_rule="big_vision"),
    epochs=15,
    has_final_cap=False,
)
"""What big_vision gives to begin with for data of one's own (`transfers/forkme.py`)."""
SMALL = NamedRecipe(name="small", training=Recipe(steps=300, batch_size=16, learning_rate=6e-4))
"""For the small model inside this package."""
NAMES = ("own", "small")


def recipe_named(name: str | None, config: ModelConfig) -> NamedRecipe:
    """The recipe with a name.

    Args:
        name: one of `NAMES`; None takes "small" for small models and "own" for all others.
        config: of the model.

    Raises:
        InputError: there is none with this name.
    """
    if name is None:
        name = "own" if config.text.hidden_size >= min(_WIDTHS) else "small"
    known = {"own": OWN, "small": SMALL}
    if name not in known:
        raise InputError(f"there is no recipe {name!r}", hint=f"known: {', '.join(NAMES)}")
    return known[name]


def transfer_recipe(name: str, row: TransferRecipe, config: ModelConfig) -> NamedRecipe:
    """The recipe of one of the card's transfers, or of another benchmark's, as it is for a model.

    Args:
        name: what to call it.
        row: its hyper-parameters by size and resolution.
        config: of the model: its width tells the size, its pictures the resolution.
    """
    image_size, width = config.vision.image_size, config.text.hidden_size
    place = max((i for i, each in enumerate(_RESOLUTIONS) if each <= image_size), default=0)
    of_size = dict(zip(_WIDTHS, row.paligemma2, strict=True)).get(width)
    return NamedRecipe(
        name=name,
        training=Recipe(
            steps=1,
            batch_size=int(_at(row.batch_size, place)),
            learning_rate=of_size or _at(row.learning_rate, place),
            weight_decay=_at(row.weight_decay, place),
            decay_rule="big_vision",
            dropout=_at(row.dropout, place),
            label_smoothing=row.label_smoothing,
            freeze=("image",) if _at(row.is_image_frozen, place) else (),
        ),
        epochs=_at(row.epochs, place),
        text_length=row.text_length,
        has_final_cap=False,
    )


def _at(value: ByResolution, place: int) -> float:
    return value[place] if isinstance(value, tuple) else value
