"""Where a model runs and in which numbers, by the names that users give."""

from typing import Literal

import torch

from paligemma2.errors import InputError
from paligemma2.model.half_linear import has_half_kernels
from paligemma2.model.packed_linear import has_packed_kernels
from paligemma2.model.weight_forms import (
    Quantization,
    WeightForm,
    half_form,
    packed_form,
    plain_form,
    quantized_form,
    restored_form,
)

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


def form_for(
    device: torch.device,
    dtype: torch.dtype,
    *,
    may_pack: bool = True,
    quantize: Quantization | None = None,
) -> WeightForm:
    """How weights of a dtype are kept on a device so that it computes fast with them.

    On the CPU they are packed for the kernels of oneDNN, or for those of FBGEMM where the processor can only
    widen bfloat16. Weights of float16, in which activations of Gemma 2 overflow, become float32.

    Args:
        device: where they are.
        dtype: of the weights.
        may_pack: False leaves them as they are, for a model that is trained or that processes share.
        quantize: round them to 8 or 4 bits; with `may_pack` False so that gradients flow through them.
    """
    if dtype == torch.float16:
        dtype = torch.float32
    if quantize is not None:
        is_slow = device.type == "cpu" and dtype == torch.bfloat16 and not has_bfloat16_arithmetic()
        form = quantized_form if may_pack else restored_form
        return form(quantize, torch.float32 if is_slow else dtype)
    if device.type != "cpu" or not may_pack:
        return plain_form(dtype)
    if dtype == torch.bfloat16 and not has_bfloat16_arithmetic():
        return half_form() if has_half_kernels() else plain_form(dtype)
    return packed_form(dtype) if has_packed_kernels(dtype) else plain_form(dtype)
