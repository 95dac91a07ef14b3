"""Options that several verbs have, and how their words are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paligemma2.errors import InputError

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
