"""Options that several verbs have, and how their words are read."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paligemma2.errors import InputError
from paligemma2.types import Decoding

if TYPE_CHECKING:
    import torch

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="'tiny' (inside this package), a folder, a big_vision .npz, or a hub id.",
        metavar="MODEL",
    ),
]
Source = Annotated[
    str, typer.Argument(help="'tiny', a folder, a big_vision .npz, or a hub id.", show_default=False)
]
Quantize = Annotated[
    str | None, typer.Option(help="int8, int4 or w8a8: weights of 8 or 4 bits.", show_default="as they are")
]
TrainingData = Annotated[
    list[str],
    typer.Option(
        "--data",
        help="Data set in any format that `data convert` reads; several with weights are a mixture.",
        metavar="PATH[=WEIGHT]",
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="As cococap; `own` is for data of your own.", show_default="by the size of the model"
    ),
]
RecipeSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="As training.learning_rate=3e-6 or lora.rank=8.", metavar="NAME=VALUE"),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Updates.", show_default="by recipe")]
Seed = Annotated[int, typer.Option("--seed", help="Of the order of the examples and of everything random.")]
NumWorkers = Annotated[int, typer.Option("--num-workers", min=0, help="Processes that read pictures ahead.")]
KeepWeights = Annotated[
    str,
    typer.Option(
        "--keep",
        help="Of several runs: best keeps the weights of the best alone, to save space; all those of all.",
    ),
]
Track = Annotated[
    str | None,
    typer.Option("--track", help="Also send the numbers to trackio, wandb or tensorboard.", metavar="TOOL"),
]
_DTYPES = ("float32", "bfloat16", "float16")


def checkpoint_path(source: str) -> str | Path:
    """What a checkpoint is called in the layers below, which do not know "tiny"."""
    from paligemma2.assets import TINY_FOLDER

    return TINY_FOLDER if source == "tiny" else source


def stored_dtype(name: str | None) -> "torch.dtype | None":
    """The dtype with this name; None stays None.

    Raises:
        InputError: weights cannot be stored so.
    """
    if name is None:
        return None
    if name not in _DTYPES:
        raise InputError(f"dtype {name!r} cannot be stored", hint=f"use one of {', '.join(_DTYPES)}")
    import torch

    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


_READ_AS: Mapping[type, Callable[[str], Any]] = {int: int, float: float, str: str, type(None): int}
"""How the value of a setting is read, by the type of its default; what is None by default is a number."""


def decoding_of(settings: Sequence[str]) -> Decoding:
    """How tokens are chosen, by `name=value` for each setting of `Decoding`; `stop` may come several times.

    Raises:
        InputError: no such setting, or a value that cannot be read; whether it makes sense is checked later.
    """
    decoding = Decoding()
    known = [field.name for field in fields(Decoding) if field.name != "max_new_tokens"]
    for setting in settings:
        name, has_value, value = setting.partition("=")
        if name not in known or not has_value:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {near[0]}=…?" if near and name not in known else f"known: {', '.join(known)}"
            )
            raise InputError(f"--set {setting!r} is not a setting and its value", hint=hint)
        decoding = replace(decoding, **{name: _read(name, value, getattr(decoding, name))})
    return decoding


def _read(name: str, value: str, before: object) -> Any:
    if isinstance(before, tuple):
        return (*before, value)
    try:
        return _READ_AS[type(before)](value)
    except ValueError as error:
        hint = "give a number, as in " + (f"{name}=0.7" if isinstance(before, float) else f"{name}=3")
        raise InputError(f"{name} is {value!r}", hint=hint) from error
