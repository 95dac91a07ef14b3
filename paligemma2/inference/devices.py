"""Where a model runs and in which numbers, by the names that users give."""

from typing import Literal

import torch

from paligemma2.errors import InputError
from paligemma2.model.half_linear import fits_half, has_half_kernels, to_half_linear
from paligemma2.model.paligemma2 import PaliGemma2Model

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

    MPS is never taken by itself: nothing here has run on it yet.

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


def dtype_on(device: torch.device, dtype: torch.dtype | None) -> torch.dtype | None:
    """`dtype`, but float32 instead of the file's own on an MPS device without bfloat16 (before macOS 14).

    Raises:
        InputError: it is bfloat16 that is asked for there.
    """
    if device.type != "mps" or dtype == torch.float32 or _has_bfloat16(device):
        return dtype
    if dtype is None:
        return torch.float32
    raise InputError("dtype 'bfloat16' is not available on this device", hint="use float32")


def _has_bfloat16(device: torch.device) -> bool:
    try:
        torch.zeros(1, dtype=torch.bfloat16, device=device)
    except (RuntimeError, TypeError):
        return False
    return True


def has_bfloat16_arithmetic() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 itself (AVX512-BF16, AMX and the like)."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fit_to_device(model: PaliGemma2Model, *, may_pack: bool = True) -> None:
    """Let a loaded model compute in numbers that its device is good at.

    Weights of bfloat16 stay in 16 bits on a CPU that can only widen them, and all else becomes float32. So
    does a whole model of float16, in which activations of Gemma 2 overflow.

    Args:
        model: just loaded.
        may_pack: False leaves 16 bits as they are, for a model that processes share.
    """
    if model.dtype == torch.float16:
        model.float()
    is_half_on_cpu = may_pack and model.device.type == "cpu" and model.dtype == torch.bfloat16
    if is_half_on_cpu and not has_bfloat16_arithmetic() and has_half_kernels() and fits_half(model):
        to_half_linear(model, table="language_model.embed_tokens")
