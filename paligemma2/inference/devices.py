"""Where a model runs and in which numbers, by the names that users give."""

from typing import Literal

import torch

from paligemma2.errors import InputError

Dtype = Literal["auto", "float32", "bfloat16"]
_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def dtype_named(name: str) -> torch.dtype | None:
    """The dtype of a name; None, which is that of the file, for "auto".

    Raises:
        InputError: no such dtype, or one in which the model overflows.
    """
    if name not in _DTYPES:
        hint = f"use one of {', '.join(_DTYPES)}"
        if name == "float16":
            hint += "; activations of Gemma 2 overflow in float16"
        raise InputError(f"dtype {name!r} is not supported", hint=hint)
    return _DTYPES[name]


def device_named(name: str) -> torch.device:
    """The device of a name; for "auto" CUDA if there is one, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available here", hint="use auto or cpu") from error
    return device
