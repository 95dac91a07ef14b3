"""big_vision's `.npz` checkpoints: numpy arrays in a zip, all layers stacked, bfloat16 as 2-byte void."""

import contextlib
import dataclasses
import functools
import itertools
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.layouts import EMBEDDING, StackedArray, big_vision_arrays, expected_shapes
from paligemma2.checkpoint.safetensors_writer import tensor_bytes
from paligemma2.checkpoint.weights import Problems, StoredTensor, check_tensors
from paligemma2.errors import CheckpointError, InputError
from paligemma2.model.config import PRESETS, ModelConfig

_TABLE = "llm/embedder/input_embedding"
_POSITIONS = "img/pos_embedding"
_HINT = "the file is damaged or of another model; download it again, or give the right config.json beside it"
_CHUNK = 16 * 2**20
_LOCAL_HEADER = struct.Struct("<26xHH")
# numpy has no bfloat16: the arrays are stored as two bytes without a meaning.
_DESCRIPTIONS = {torch.bfloat16: "<V2", torch.float16: "<f2", torch.float32: "<f4", torch.float64: "<f8"}
_DTYPES = {
    ("V", 2): torch.bfloat16,
    ("f", 2): torch.float16,
    ("f", 4): torch.float32,
    ("f", 8): torch.float64,
    ("i", 4): torch.int32,
    ("i", 8): torch.int64,
    ("u", 1): torch.uint8,
}


@dataclass(frozen=True)
class _Member:
    """One array in the zip, as its header describes it."""

    zip_name: str
    tensor: StoredTensor
    is_fortran: bool
    header_size: int
    start: int  # of the member's local header in the file
    is_compressed: bool


class NpzFile:
    """The weights of a big_vision file; see `Weights`. Arrays are read slice by slice."""

    layout = "big_vision npz"

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        members: Mapping[str, _Member],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.path = path
        self.config = config
        self._members = members
        self._shapes = shapes
        rows = members[_TABLE].tensor.shape[0]
        self.num_zero_rows = config.text.vocab_size - rows
        arrays = (_with_rows(array, rows) for array in big_vision_arrays(config))
        self._arrays = sorted(arrays, key=lambda array: members[array.name].start)
        self._homes = {name: (array, i) for array in self._arrays for i, name in enumerate(array.tensors)}

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """All tensors by our names; the vocabulary counts its zero rows."""
        return {
            name: StoredTensor(self._shapes[name], self._members[array.name].tensor.dtype)
            for name, (array, _) in self._homes.items()
        }

    def read(self, name: str) -> Tensor:
        """One tensor, a copy in memory of its own."""
        array, place = self._homes[name]
        member = self._members[array.name]
        if member.is_compressed or member.is_fortran:
            return self._tensor(name, next(itertools.islice(self._pieces(array), place, None)))
        with _readable(self.path), self.path.open("rb") as file:
            file.seek(member.start)
            name_size, extra_size = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            skipped = place * array.slice_size * member.tensor.dtype.itemsize
            file.seek(
                member.start + _LOCAL_HEADER.size + name_size + extra_size + member.header_size + skipped
            )
            return self._tensor(name, _filled(file, array.slice_shape, member.tensor.dtype))

    def stream(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors in the order of the file; its check sums are compared."""
        for array in self._arrays:
            for name, piece in zip(array.tensors, self._pieces(array), strict=True):
                yield name, self._tensor(name, piece)

    def _tensor(self, name: str, piece: Tensor) -> Tensor:
        array, _ = self._homes[name]
        if name != EMBEDDING or not self.num_zero_rows:
            return array.to_tensor(piece, self._shapes[name]).contiguous()
        table = torch.zeros(self._shapes[name], dtype=piece.dtype)
        table[: len(piece)] = piece
        return table

    def _pieces(self, array: StackedArray) -> Iterator[Tensor]:
        member = self._members[array.name]
        with (
            _readable(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(member.zip_name) as file,
        ):
            file.read(member.header_size)
            if member.is_fortran:
                yield from _turned(file, array, member.tensor)
            else:
                for _ in array.tensors:
                    yield _filled(file, array.slice_shape, member.tensor.dtype)
            file.read(1)  # Reaching the end is what compares the check sum.


def _turned(file: IO[bytes], array: StackedArray, stored: StoredTensor) -> Iterator[Tensor]:
    whole = _filled(file, stored.shape[::-1], stored.dtype)
    yield from whole.permute(*range(whole.dim())[::-1]).reshape(-1, *array.slice_shape)


def _with_rows(array: StackedArray, rows: int) -> StackedArray:
    if array.name != _TABLE:
        return array
    return dataclasses.replace(array, slice_shape=(rows, *array.slice_shape[1:]))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns every way in which a damaged file fails into our error."""
    try:
        yield
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}", hint=_HINT) from error


def _filled(file: IO[bytes], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The next `shape` numbers of a file."""
    flat = torch.empty(math.prod(shape), dtype=dtype)
    view = tensor_bytes(flat)
    done = 0
    while done < len(view):
        piece = file.read(min(_CHUNK, len(view) - done))
        if not piece:
            raise EOFError("it ends too early")
        view[done : done + len(piece)] = piece
        done += len(piece)
    return flat.view(shape)


def open_npz(path: Path, config: ModelConfig | None = None) -> NpzFile:
    """The weights of a big_vision file, after all checks that need no weights in memory.

    Args:
        path: the `.npz`.
        config: the model; else `config.json` beside the file, else the released size of the same widths.

    Raises:
        CheckpointError: names all that is missing, unexpected, of a wrong shape, not floating point or
            truncated; or the size is none of the released ones and nothing tells the rest.
    """
    problems = Problems()
    members = _members(path, problems)
    if config is None and (path.parent / "config.json").is_file():
        config = read_config(path.parent)
    config = config or infer_config(path, {name: member.tensor.shape for name, member in members.items()})
    expected = {array.name: array.shape for array in big_vision_arrays(config)}
    found = {name: member.tensor for name, member in members.items()}
    if _TABLE in found and found[_TABLE].shape == (config.text.vocab_size, config.text.hidden_size):
        expected[_TABLE] = found[_TABLE].shape
    check_tensors(found, expected, problems, is_complete="damaged" not in problems)
    problems.raise_if_any(path, hint=_HINT)
    return NpzFile(path, config, members, expected_shapes(config))


def _members(path: Path, problems: Problems) -> dict[str, _Member]:
    members: dict[str, _Member] = {}
    with _readable(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy").removeprefix("params/")
            if name in members:
                problems.add("stored twice", name)
                continue
            try:
                members[name] = _member(archive, info)
            except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
                problems.add("damaged", f"{name}: {error}")
    return members


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array format {version} is unknown")
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read_header(file)
        header_size = file.tell()
    known = _DTYPES.get((dtype.kind, dtype.itemsize))
    if known is None or dtype.fields is not None or not dtype.isnative:
        raise ValueError(f"numbers of type {dtype.str!r} are not read")
    tensor = StoredTensor(tuple(shape), known)
    if info.file_size != header_size + tensor.num_bytes:
        raise ValueError(f"{info.file_size - header_size} bytes instead of {tensor.num_bytes}")
    is_compressed = info.compress_type != zipfile.ZIP_STORED
    return _Member(info.filename, tensor, is_fortran, header_size, info.header_offset, is_compressed)


def infer_config(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """The released variant whose decoder and image size a file of these arrays has.

    Raises:
        CheckpointError: it is none of them.
    """
    for name in (_TABLE, _POSITIONS):
        if len(shapes.get(name, ())) < 2:
            raise CheckpointError(f"{path}: {name} is missing or damaged", hint=_HINT)
    layers = shapes.get("llm/layers/attn/q_einsum/w", (None,))[0]
    for config in PRESETS.values():
        widths = (config.text.hidden_size, config.num_image_tokens)
        if widths == (shapes[_TABLE][-1], shapes[_POSITIONS][-2]) and layers in (
            None,
            config.text.num_layers,
        ):
            return config
    raise CheckpointError(
        f"{path}: a decoder {shapes[_TABLE][-1]} wide with {shapes[_POSITIONS][-2]} image tokens is none of "
        "the released sizes",
        hint="put the config.json of the model beside the file",
    )


def write_npz(
    path: Path, config: ModelConfig, dtypes: Mapping[str, torch.dtype], read: Callable[[str], Tensor]
) -> None:
    """Write a big_vision file, slice by slice.

    Rows of the vocabulary that no text can use (`<image>` and the filler behind it) have no place in it.

    Args:
        path: the new file.
        config: the model.
        dtypes: of our tensors, by name; an array of several has the one that holds them all.
        read: gives our tensor of a name.

    Raises:
        InputError: a dtype that numpy files cannot hold.
    """
    for dtype in dtypes.values():
        if dtype not in _DESCRIPTIONS:
            raise InputError(f"a .npz cannot hold {dtype}", hint="use bfloat16 or float32")
    with zipfile.ZipFile(path, "w") as archive:
        for array in big_vision_arrays(config):
            dtype = functools.reduce(torch.promote_types, (dtypes[name] for name in array.tensors))
            header = {"descr": _DESCRIPTIONS[dtype], "fortran_order": False, "shape": array.shape}
            with archive.open(zipfile.ZipInfo(array.name + ".npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for name in array.tensors:
                    tensor = read(name)[: config.num_text_rows] if name == EMBEDDING else read(name)
                    file.write(tensor_bytes(array.from_tensor(tensor.to(dtype))))
