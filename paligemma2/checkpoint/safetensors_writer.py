"""Writing `model*.safetensors`, one tensor at a time and in any order, and single files.

The library's own writer needs all tensors of a shard in memory; the format is a header of offsets and then
the numbers, so the header can be written first and each tensor put in its place.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import torch
from torch import Tensor

from paligemma2.checkpoint.safetensors_files import INDEX_FILE, SINGLE_FILE
from paligemma2.checkpoint.weights import StoredTensor, total_bytes
from paligemma2.errors import InputError

MAX_SHARD_SIZE = 5 * 10**9
WRITABLE = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
}


class SafetensorsWriter:
    """Writes the weight files of a folder; use as a context manager.

    Args:
        folder: exists.
        tensors: every tensor that will be written, by its stored name, in the order of the shards.
        max_shard_size: bytes of tensors per file, unless a single tensor is larger.

    Raises:
        InputError: a dtype that cannot be written.
    """

    def __init__(
        self, folder: Path, tensors: Mapping[str, StoredTensor], *, max_shard_size: int = MAX_SHARD_SIZE
    ) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype not in WRITABLE:
                raise InputError(f"{name} cannot be stored as {tensor.dtype}", hint="use bfloat16 or float32")
        self._folder = folder
        self._tensors = dict(tensors)
        self._shards = _split(tensors, max_shard_size)
        self._places: dict[str, tuple[BinaryIO, int]] = {}
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Self:
        weight_map = {}
        with contextlib.ExitStack() as files:
            for number, names in enumerate(self._shards, start=1):
                file_name = SINGLE_FILE
                if len(self._shards) > 1:
                    file_name = f"model-{number:05d}-of-{len(self._shards):05d}.safetensors"
                self._begin(files.enter_context((self._folder / file_name).open("wb")), names)
                weight_map.update(dict.fromkeys(names, file_name))
            self._files = files.pop_all()
        if len(self._shards) > 1:
            index = {"metadata": {"total_size": total_bytes(self._tensors)}, "weight_map": weight_map}
            (self._folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()
        assert kind is not None or not self._places, f"not written: {sorted(self._places)[:3]}"

    def _begin(self, file: BinaryIO, names: list[str]) -> None:
        offsets = _write_header(file, {name: self._tensors[name] for name in names})
        self._places |= {name: (file, offset) for name, offset in offsets.items()}

    def write(self, name: str, tensor: Tensor) -> None:
        """Put a tensor in its place, converted to the dtype that was announced."""
        file, offset = self._places.pop(name)
        file.seek(offset)
        file.write(tensor_bytes(tensor.to(self._tensors[name].dtype)))


def save_file(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to one file, flushed to the disk; beside them one at a time is in memory, as a copy.

    Raises:
        OSError: the disk is full or not writable.
    """
    with path.open("wb") as file:
        _write_header(
            file, {name: StoredTensor(tuple(each.shape), each.dtype) for name, each in tensors.items()}
        )
        for tensor in tensors.values():
            file.write(tensor_bytes(tensor))
        file.flush()
        os.fsync(file.fileno())


def _write_header(file: BinaryIO, tensors: Mapping[str, StoredTensor]) -> dict[str, int]:
    """Where in the file each tensor is to begin."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset, offsets = 0, {}
    for name, tensor in tensors.items():
        offsets[name] = offset
        header[name] = {
            "dtype": WRITABLE[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": (offset, offset + tensor.num_bytes),
        }
        offset += tensor.num_bytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    start = file.tell()
    return {name: start + offset for name, offset in offsets.items()}


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The numbers of a tensor in row order, as they are in memory."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data


def _split(tensors: Mapping[str, StoredTensor], max_shard_size: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.num_bytes > max_shard_size:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.num_bytes
    return shards
