"""Recipes by name: those of the card's transfers, and two for data of one's own.

The transfers are those of PaliGemma (arXiv:2407.07726, appendix J; big_vision
`configs/proj/paligemma/transfers`), with the learning rates of PaliGemma 2 for each size (arXiv:2412.03555,
table 14: the best mean over the rows of the card that a transfer gives; of equal ones the smaller).
"""

import difflib
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


TRANSFERS = {
    "ai2d": TransferRecipe(
        text_length=128,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(6e-06, 1e-06, 3e-06),
    ),
    "aokvqa_da": TransferRecipe(
        text_length=32, epochs=10, batch_size=128, learning_rate=5e-06, paligemma2=(3e-06, 1e-06, 6e-07)
    ),
    "aokvqa_mc": TransferRecipe(
        text_length=128, epochs=15, batch_size=128, learning_rate=5e-06, paligemma2=(3e-06, 3e-07, 1e-06)
    ),
    "activitynet_cap": TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=1e-05,
        weight_decay=1e-06,
        is_image_frozen=True,
        paligemma2=(3e-06, 3e-06, None),
    ),
    "activitynet_qa": TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(6e-06, 6e-06, None),
    ),
    "chartqa": TransferRecipe(
        text_length=48,
        epochs=30,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        dropout=0.1,
        label_smoothing=0.2,
        paligemma2=(3e-06, 1e-06, 3e-07),
    ),
    "coco35l": TransferRecipe(
        text_length=32,
        epochs=25,  # over the pictures, each in one of its languages
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(1e-06, 6e-07, 3e-07),
    ),
    "cococap": TransferRecipe(
        text_length=32,
        epochs=5,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(3e-06, 6e-07, 6e-07),
    ),
    "docvqa": TransferRecipe(
        text_length=32,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(6e-06, 3e-06, 3e-06),
    ),
    "gqa": TransferRecipe(
        text_length=32,
        epochs=1,
        batch_size=256,
        learning_rate=1e-05,
        is_image_frozen=(False, True, True),
        paligemma2=(3e-06, 1e-06, 3e-06),
    ),
    "infovqa": TransferRecipe(
        text_length=48,
        epochs=3,
        batch_size=(256, 128, 32),
        learning_rate=(1e-05, 1e-05, 3e-06),
        weight_decay=(1e-06, 1e-06, 3e-07),
        label_smoothing=0.4,
        paligemma2=(3e-06, 6e-07, 3e-07),
    ),
    "msrvtt_cap": TransferRecipe(
        text_length=32,
        epochs=20,
        batch_size=128,
        learning_rate=1e-05,
        is_image_frozen=True,
        paligemma2=(1e-05, 1e-06, None),
    ),
    "msrvtt_qa": TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=1e-05,
        is_image_frozen=True,
        paligemma2=(6e-06, 3e-06, None),
    ),
    "msvd_qa": TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=3e-06,
        weight_decay=3e-07,
        paligemma2=(3e-06, 1e-06, None),
    ),
    "nlvr2": TransferRecipe(
        text_length=64,
        epochs=(3, 10, 10),
        batch_size=256,
        learning_rate=(1e-05, 3e-06, 3e-06),
        weight_decay=(1e-06, 3e-07, 3e-07),
        paligemma2=(6e-06, 1e-06, 3e-06),
    ),
    "ocrvqa": TransferRecipe(
        text_length=32,
        epochs=3,
        batch_size=128,
        learning_rate=(3e-06, 3e-06, 1e-05),
        paligemma2=(1e-06, 3e-07, 3e-07),
    ),
    "okvqa": TransferRecipe(
        text_length=32, epochs=10, batch_size=128, learning_rate=5e-06, paligemma2=(3e-06, 1e-06, 1e-06)
    ),
    "refcoco": TransferRecipe(
        text_length=48,
        epochs=100,
        batch_size=(256, 256, 64),
        learning_rate=(3e-05, 1e-05, 1e-05),
        dropout=(0.1, 0, 0),
        label_smoothing=0.3,
        paligemma2=(1e-05, 3e-06, 1e-06),
    ),
    "rsvqa_hr": TransferRecipe(
        text_length=32, epochs=1, batch_size=256, learning_rate=1e-05, paligemma2=(1e-05, 6e-06, 6e-07)
    ),
    "rsvqa_lr": TransferRecipe(
        text_length=32,
        epochs=3,
        batch_size=256,
        learning_rate=3e-06,
        label_smoothing=0.2,
        paligemma2=(3e-06, 1e-05, 6e-06),
    ),
    "scicap": TransferRecipe(
        text_length=96,
        epochs=80,
        batch_size=256,
        learning_rate=3e-05,
        dropout=0.1,
        label_smoothing=0.1,
        paligemma2=(3e-05, 3e-05, 3e-05),
    ),
    "scienceqa": TransferRecipe(
        text_length=512,
        epochs=20,
        batch_size=128,
        learning_rate=1e-05,
        is_image_frozen=True,
        paligemma2=(6e-06, 1e-06, 1e-06),
    ),
    "screen2words": TransferRecipe(
        text_length=24,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        dropout=0.3,
        label_smoothing=0.2,
        paligemma2=(6e-06, 1e-06, 1e-06),
    ),
    "stvqa": TransferRecipe(
        text_length=48,
        epochs=3,
        batch_size=(256, 128, 32),
        learning_rate=(1e-05, 1e-05, 3e-06),
        weight_decay=(1e-06, 1e-06, 3e-07),
        label_smoothing=0.1,
        paligemma2=(6e-06, 3e-06, 3e-06),
    ),
    "tallyqa": TransferRecipe(
        text_length=32,
        epochs=2,
        batch_size=256,
        learning_rate=(1e-05, 1e-05, 7e-06),
        weight_decay=(0, 1e-06, 7e-07),
        paligemma2=(1e-05, 3e-06, 3e-06),
    ),
    "textcaps": TransferRecipe(
        text_length=32,
        epochs=5,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(1e-06, 1e-06, 3e-07),
    ),
    "textvqa": TransferRecipe(
        text_length=32,
        epochs=(5, 10, 10),
        batch_size=256,
        learning_rate=3e-06,
        weight_decay=(0, 3e-07, 0),
        paligemma2=(3e-06, 6e-07, 1e-06),
    ),
    "vatex": TransferRecipe(
        text_length=64,
        epochs=10,
        batch_size=128,
        learning_rate=3e-06,
        weight_decay=3e-07,
        paligemma2=(3e-06, 3e-06, None),
    ),
    "vizwizvqa": TransferRecipe(
        text_length=48, epochs=10, batch_size=256, learning_rate=1e-05, paligemma2=(1e-05, 3e-06, 3e-06)
    ),
    "vqav2": TransferRecipe(
        text_length=32,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=(1e-06, 0, 0),
        paligemma2=(3e-06, 1e-06, 6e-07),
    ),
    "widgetcap": TransferRecipe(
        text_length=32,
        epochs=4,
        batch_size=64,
        learning_rate=3e-06,
        weight_decay=3e-07,
        dropout=0.1,
        label_smoothing=0.1,
        paligemma2=(3e-06, 1e-06, 6e-07),
    ),
}
OWN = NamedRecipe(
    name="own",
    training=Recipe(steps=1, batch_size=32, learning_rate=1e-5, weight_decay=3e-7, decay_rule="big_vision"),
    epochs=15,
    has_final_cap=False,
)
"""What big_vision gives to begin with for data of one's own (`transfers/forkme.py`)."""
SMALL = NamedRecipe(name="small", training=Recipe(steps=300, batch_size=16, learning_rate=6e-4))
"""For the small model inside this package."""
NAMES = ("own", "small", *TRANSFERS)


def recipe_named(name: str | None, config: ModelConfig) -> NamedRecipe:
    """The recipe with a name, as it is for a model.

    Args:
        name: one of `NAMES`; None takes "small" for small models and "own" for all others.
        config: of the model: its width tells the size, its pictures the resolution.

    Raises:
        InputError: there is none with this name.
    """
    if name is None:
        name = "own" if config.text.hidden_size >= min(_WIDTHS) else "small"
    if name == "own":
        return OWN
    if name == "small":
        return SMALL
    if name not in TRANSFERS:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}? Known: " if near else "known: "
        raise InputError(f"there is no recipe {name!r}", hint=hint + ", ".join(NAMES))
    return transfer_recipe(name, TRANSFERS[name], config)


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
