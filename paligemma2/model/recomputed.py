"""Steps between matrix products that keep no more than their inputs for the backward pass.

Left to autograd, each keeps several copies in float32 of what it computes on the way. What a product reads or
gives exists anyway; from that the rest is computed again, which costs little beside the products.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a matrix product of `x` is computed: that of autocast, or its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def exact_dtype(x: Tensor) -> torch.dtype:
    """The dtype for what must not be rounded to that of `x`: float32, or float64 for float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / rms(x) * (1 + weight)` computed in float32, in the dtype of products: [..., width]."""
    normalised: Tensor = _RMSNorm.apply(x, weight, eps, product_dtype(x))  # type: ignore[no-untyped-call]
    return normalised


def gated_gelu(gate: Tensor, up: Tensor) -> Tensor:
    """`gelu(gate) * up` with the tanh-approximated GELU, all of one shape and dtype."""
    gated: Tensor = _GatedGelu.apply(gate, up)  # type: ignore[no-untyped-call]
    return gated


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` [batch, heads, seq, head_dim] turned by its position, in its own dtype.

    Args:
        x: the first half of `head_dim` pairs with the second.
        cos: [batch, 1, seq, head_dim / 2]; in a wider dtype than `x` it is the one that is computed in.
        sin: like `cos`.
    """
    turned: Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return turned


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        exact = x.to(exact_dtype(x))
        length = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
        inverse = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (exact * inverse).mul_(1.0 + weight.to(exact.dtype)).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        normalised = x.to(inverse.dtype) * inverse
        grad = grad.to(inverse.dtype, copy=True)
        products = grad * normalised
        grad_weight = products.flatten(0, -2).sum(dim=0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        scale = 1.0 + weight.to(inverse.dtype)
        overlap = (products @ scale).div_(x.shape[-1])[..., None]
        grad_x = grad.mul_(scale).sub_(normalised.mul_(overlap)).mul_(inverse)
        return grad_x.to(x.dtype), grad_weight, None, None


class _GatedGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.gelu(gate, approximate="tanh").mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad_up = F.gelu(gate, approximate="tanh").mul_(grad)
        return torch.ops.aten.gelu_backward(grad * up, gate, approximate="tanh"), grad_up


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
