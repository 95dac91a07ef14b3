"""Frozen layers of few bits that gradients pass through: what an adapter is trained on (arXiv:2305.14314).

Weights are restored some rows at a time, for a product and once more for its gradient, so no float copy of a
matrix stays. The results are those of a layer with the restored weights: unlike in the kernels for inference,
activations are not rounded.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from paligemma2.model.low_bit import LowBits, pair_up, restore, take_apart

_RESTORED_AT_ONCE = {"cpu": 2**20, "cuda": 2**24}
"""Numbers, by device: on a CPU few stay in the cache, a GPU wants fewer and larger products."""


class _FrozenWeight:
    """A matrix of few bits, two numbers of 4 bits in a byte."""

    def __init__(self, low: LowBits) -> None:
        self._bits = low.bits
        self._is_paired = low.bits == 4 and low.numbers.shape[1] % 2 == 0
        self._numbers = pair_up(low.numbers) if self._is_paired else low.numbers
        self._scales = low.scales
        self.num_rows, self._num_columns = low.numbers.shape

    @property
    def num_bytes(self) -> int:
        """That are kept."""
        return self._numbers.nbytes + self._scales.nbytes

    def rows(self, which: slice | Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows as they were before they were rounded, or nearly: [rows, columns]."""
        numbers = self._numbers[which]
        if self._is_paired:
            numbers = take_apart(numbers)
        return restore(LowBits(bits=self._bits, numbers=numbers, scales=self._scales[which]), dtype)

    def slices(self) -> Iterator[slice]:
        """Of the rows, as many as are restored at once."""
        at_once = _RESTORED_AT_ONCE.get(self._numbers.device.type, _RESTORED_AT_ONCE["cuda"])
        size = max(1, at_once // self._num_columns)
        for start in range(0, self.num_rows, size):
            yield slice(start, min(start + size, self.num_rows))

    def times(self, x: Tensor) -> Tensor:
        """[tokens, columns] to [tokens, rows]."""
        product = x.new_empty(x.shape[0], self.num_rows)
        for some in self.slices():
            product[:, some] = F.linear(x, self.rows(some, x.dtype))
        return product

    def transposed_times(self, y: Tensor) -> Tensor:
        """[tokens, rows] to [tokens, columns], added up in float32."""
        total = y.new_zeros(y.shape[0], self._num_columns, dtype=torch.float32)
        for some in self.slices():
            total += y[:, some] @ self.rows(some, y.dtype)
        return total.to(y.dtype)


class _Product(torch.autograd.Function):
    """`weight.times(x)`, with the gradient of `x`."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: _FrozenWeight) -> Tensor:
        ctx.weight = weight  # type: ignore[attr-defined]
        return weight.times(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.weight.transposed_times(gradient), None  # type: ignore[attr-defined]


def _multiply(x: Tensor, weight: _FrozenWeight) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):  # which would not reach into the product
        x = x.to(torch.get_autocast_dtype(x.device.type))
    flat = x.reshape(-1, x.shape[-1])
    product: Tensor = _Product.apply(flat, weight)  # type: ignore[no-untyped-call]
    return product.view(*x.shape[:-1], -1)


class RestoredLinear(nn.Module):
    """A frozen linear layer with weights of few bits.

    Args:
        low: the weight.
        bias: [out] or None.
    """

    def __init__(self, low: LowBits, bias: Tensor | None) -> None:
        super().__init__()
        self._weight = _FrozenWeight(low)
        self.packed_bytes = self._weight.num_bytes
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out] in the dtype of `x`, or that of autocast."""
        product = _multiply(x, self._weight)
        return product if self.bias is None else product + self.bias.to(product.dtype)


class RestoredTable(nn.Module):
    """A frozen table of embeddings that is the output layer too, with 8 bits.

    Args:
        low: the weight, of 8 bits.
        dtype: of the rows that are looked up.
    """

    def __init__(self, low: LowBits, dtype: torch.dtype) -> None:
        super().__init__()
        self._weight = _FrozenWeight(low)
        self._dtype = dtype
        self.packed_bytes = self._weight.num_bytes

    def forward(self, token_ids: Tensor) -> Tensor:
        """The rows of these tokens: int64 [...] to [..., width]."""
        rows = self._weight.rows(token_ids.flatten(), self._dtype)
        return rows.view(*token_ids.shape, -1)

    def __len__(self) -> int:
        """The number of rows."""
        return self._weight.num_rows

    def __getitem__(self, rows: slice) -> Tensor:
        """Some rows, for a loss that takes some at a time: float32 [rows, width]."""
        return self._weight.rows(rows, torch.float32)

    def logits(self, hidden: Tensor) -> Tensor:
        """The product with every row: [..., width] to float32 [..., rows]."""
        return _multiply(hidden, self._weight).float()
