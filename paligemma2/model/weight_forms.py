"""How a model keeps its weights for inference: as they are, packed for a kernel, or in fewer bits.

A form is chosen before loading, so that each weight takes it as soon as it is read and two copies of the
whole model never exist.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from paligemma2.model.half_linear import HalfLinear, fits_half, half_blocks
from paligemma2.model.low_bit import Bits, LowBits, quantize
from paligemma2.model.packed_linear import PackedLinear, packed_blocks
from paligemma2.model.packed_table import PackedTable
from paligemma2.model.quantized_linear import QuantizedLinear, QuantizedTable
from paligemma2.model.restored_linear import RestoredLinear, RestoredTable

Quantization: TypeAlias = Literal["int8", "int4", "w8a8"]
_DECODER_BLOCKS = "language_model.layers."


@dataclass(frozen=True, kw_only=True)
class WeightForm:
    """What becomes of each weight.

    Attributes:
        dtype: of activations, and of all weights that stay as they are.
        linear: the name of a linear layer and the layer with its weight (its bias may follow later) to what
            takes its place.
        table: the same for the embedding that is the output layer too.
        low_linear: a weight that has few bits already, and the bias, to a linear layer.
        low_table: a weight that has few bits already to the embedding.
        threads: layers that are packed at once; 1 where packing uses all threads by itself.
    """

    dtype: torch.dtype
    linear: Callable[[str, nn.Linear], nn.Module] | None = None
    table: Callable[[nn.Embedding], nn.Module] | None = None
    low_linear: Callable[[LowBits, Tensor | None], nn.Module] | None = None
    low_table: Callable[[LowBits], nn.Module] | None = None
    threads: int = 1


def plain_form(dtype: torch.dtype) -> WeightForm:
    """Weights as they are, which can be trained and saved."""
    return WeightForm(dtype=dtype)


def packed_form(dtype: torch.dtype) -> WeightForm:
    """Packed for oneDNN, float32 or bfloat16."""
    return WeightForm(
        dtype=dtype,
        linear=lambda name, linear: PackedLinear(linear.to(dtype)),
        table=lambda table: PackedTable(table.to(dtype), packed_blocks(dtype)),
    )


def half_form() -> WeightForm:
    """16 bits in FBGEMM's layout, computing in float32; a weight too large for float16 stays in float32."""
    return WeightForm(
        dtype=torch.float32,
        linear=lambda name, linear: HalfLinear(linear) if fits_half(linear.weight) else linear.float(),
        table=lambda table: PackedTable(table, half_blocks()) if fits_half(table.weight) else table.float(),
        threads=torch.get_num_threads(),
    )


def bits_of(quantization: Quantization, name: str) -> Bits:
    """Of the weights of a linear layer: 4 in the decoder's blocks with "int4", else 8."""
    return 4 if quantization == "int4" and name.startswith(_DECODER_BLOCKS) else 8


def quantized_form(quantization: Quantization, dtype: torch.dtype) -> WeightForm:
    """Weights of 8 or 4 bits, activations in `dtype`, or rounded to 8 bits in each product for "w8a8".

    With "int4" the decoder's blocks have 4 bits; the image encoder and the table, which is the output layer
    too, have 8.
    """
    layer = partial(QuantizedLinear, rounds_activations=quantization == "w8a8")
    return _low_form(quantization, dtype, layer, partial(QuantizedTable, dtype=dtype))


def restored_form(quantization: Quantization, dtype: torch.dtype) -> WeightForm:
    """The same weights, through which gradients flow to an adapter; activations are never rounded."""
    return _low_form(quantization, dtype, RestoredLinear, partial(RestoredTable, dtype=dtype))


def _low_form(
    quantization: Quantization,
    dtype: torch.dtype,
    layer: Callable[[LowBits, Tensor | None], nn.Module],
    low_table: Callable[[LowBits], nn.Module],
) -> WeightForm:
    def linear(name: str, linear: nn.Linear) -> nn.Module:
        return layer(quantize(linear.weight.detach(), bits_of(quantization, name)), linear.bias)

    def table(table: nn.Embedding) -> nn.Module:
        return low_table(quantize(table.weight.detach(), 8))

    return WeightForm(dtype=dtype, linear=linear, table=table, low_linear=layer, low_table=low_table)


def fill(
    model: nn.Module, weights: Iterable[tuple[str, Tensor | LowBits]], form: WeightForm, table: str
) -> None:
    """Give a model on the meta device its weights, each in its form as soon as it is there.

    Args:
        model: has a parameter for each name.
        weights: names and tensors, on the device where they are to stay; the CPU's are copied if kept.
        form: what they become.
        table: the name of the weight of the embedding that is the output layer too.
    """
    later: list[tuple[str, Tensor]] = []  # biases: their layer may be about to be replaced

    def large() -> Iterator[tuple[str, Tensor | LowBits]]:
        for name, tensor in weights:
            if isinstance(tensor, Tensor) and tensor.dim() < 2:
                later.append((name, tensor))
            else:
                yield name, tensor
            del tensor

    put = partial(_put, model, form, table)
    if form.threads == 1:  # a thread of its own would only keep the kernels from the memory of this one
        for name, tensor in large():
            put(name, tensor)
            del tensor
    else:
        _side_by_side(put, large(), form.threads)
    for name, tensor in later:
        put(name, tensor)
    if form.linear is not None:
        _give_back_memory()


def _side_by_side(
    put: Callable[[str, Tensor | LowBits], None],
    weights: Iterable[tuple[str, Tensor | LowBits]],
    threads: int,
) -> None:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[None]] = deque()
        for name, tensor in weights:
            waiting.append(pool.submit(put, name, tensor))
            del tensor
            while len(waiting) > threads:
                waiting.popleft().result()
        for each in waiting:
            each.result()


def refill(model: nn.Module, form: WeightForm, table: str) -> None:
    """Bring a model that has its weights into a form, a few at a time."""
    names = [name for name, _ in model.named_parameters()]

    def taken_out() -> Iterator[tuple[str, Tensor | LowBits]]:
        for name in names:
            weight = model.get_parameter(name).detach()
            path, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(path), leaf, nn.Parameter(weight.to("meta"), requires_grad=False))
            yield name, weight
            del weight

    fill(model, taken_out(), form, table)


@torch.no_grad()
def _put(model: nn.Module, form: WeightForm, table: str, name: str, tensor: Tensor | LowBits) -> None:
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    parent, _, last = path.rpartition(".")
    if isinstance(tensor, LowBits):
        assert form.low_linear is not None
        assert form.low_table is not None
        low = form.low_table(tensor) if name == table else form.low_linear(tensor, owner.bias)  # type: ignore[arg-type]
        setattr(model.get_submodule(parent), last, low)
    elif isinstance(owner, nn.Linear) and leaf == "weight" and form.linear is not None:
        owner.weight = nn.Parameter(tensor, requires_grad=False)
        setattr(model.get_submodule(parent), last, form.linear(path, owner))
    elif isinstance(owner, nn.Embedding) and name == table and form.table is not None:
        owner.weight = nn.Parameter(tensor, requires_grad=False)
        setattr(model.get_submodule(parent), last, form.table(owner))
    else:
        # On the CPU it may lie in a mapped file; elsewhere it was put there for this model.
        kept = tensor.to(form.dtype, copy=tensor.device.type == "cpu")
        setattr(owner, leaf, nn.Parameter(kept, requires_grad=form.linear is None))


def is_packed(module: nn.Module) -> bool:
    """Whether some weights are kept in a form from which they can be neither trained nor saved."""
    return any(hasattr(each, "packed_bytes") for each in module.modules())


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all weights as they are kept."""
    plain = sum(each.nbytes for each in (*module.parameters(), *module.buffers()))
    return plain + sum(getattr(each, "packed_bytes", 0) for each in module.modules())


def _give_back_memory() -> None:
    """Let glibc return what was freed: its heap keeps matrices of a few megabytes, here for ever."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
