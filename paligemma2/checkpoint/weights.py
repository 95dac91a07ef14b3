"""What every file of weights offers, and how its faults are collected into one error."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from paligemma2.errors import CheckpointError

OnProgress: TypeAlias = Callable[[int, int], None]  # (bytes done, bytes in all)

_SHOWN = 3


@dataclass(frozen=True)
class StoredTensor:
    """Shape and dtype of a tensor in a file, known without reading it."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.size * self.dtype.itemsize


class Weights(Protocol):
    """The weights of one model on disk, checked against its configuration but not read.

    Names and shapes are those of our modules, whatever the file's own are.
    """

    @property
    def path(self) -> Path:
        """The folder or file."""

    @property
    def layout(self) -> str:
        """The layout in words, e.g. `Hugging Face (legacy)`."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """All tensors in the order of the file; exactly those of the model."""

    @property
    def num_zero_rows(self) -> int:
        """Rows at the end of the vocabulary that the file does not hold; they are read as zeros."""

    def read(self, name: str) -> Tensor:
        """One tensor, a copy in memory of its own."""

    def stream(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors one after another in the order that is fastest to read.

        A tensor may lie in the mapped file; who keeps it, copies it.
        """


class Problems:
    """Everything that is wrong with some files, told at once."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Note that `name` has a fault, e.g. kind `missing`."""
        self._names.setdefault(kind, []).append(name)

    def __contains__(self, kind: str) -> bool:
        return kind in self._names

    def __bool__(self) -> bool:
        return bool(self._names)

    def raise_if_any(self, path: Path, *, hint: str) -> None:
        """Raise one error that counts every kind of fault and names the first of each.

        Raises:
            CheckpointError: there are faults.
        """
        if not self._names:
            return
        parts = []
        for kind, names in self._names.items():
            more = ", …" if len(names) > _SHOWN else ""
            parts.append(f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{more})")
        raise CheckpointError(f"{path}: {'; '.join(parts)}", hint=hint)


def check_tensors(
    found: Mapping[str, StoredTensor],
    expected: Mapping[str, tuple[int, ...]],
    problems: Problems,
    *,
    is_complete: bool = True,
    integers: Collection[str] = (),
) -> None:
    """Note tensors that are missing, unexpected, of a wrong shape or kind.

    Args:
        found: what the headers say.
        expected: the names and shapes that must be there.
        problems: where to note.
        is_complete: False when a file could not be read, so that absence proves nothing.
        integers: the names of those that must be int8 or uint8; all others are floating point.
    """
    for name, shape in expected.items():
        if name not in found:
            if is_complete:
                problems.add("missing", name)
            continue
        if found[name].shape != shape:
            problems.add("with a wrong shape", f"{name}: {list(found[name].shape)}, not {list(shape)}")
        dtype = found[name].dtype
        if name in integers and dtype not in (torch.int8, torch.uint8):
            problems.add("not of 8 bits", f"{name}: {dtype_name(dtype)}")
        if name not in integers and not dtype.is_floating_point:
            problems.add("not floating point", f"{name}: {dtype_name(dtype)}")
    for name in found:
        if name not in expected:
            problems.add("unexpected", name)


def main_dtype(tensors: Mapping[str, StoredTensor]) -> torch.dtype:
    """The dtype that most numbers are stored in; 8-bit floats count as bfloat16, which can compute."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
    dtype = max(sizes, key=sizes.__getitem__)
    return torch.bfloat16 if dtype.itemsize == 1 else dtype


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for `torch.bfloat16`."""
    return str(dtype).removeprefix("torch.")


def total_bytes(tensors: Mapping[str, StoredTensor]) -> int:
    """Bytes of all tensors as stored."""
    return sum(tensor.num_bytes for tensor in tensors.values())
