"""Tensors of a saved state, in one file or shared out over the files of several processes.

A tensor is stored whole, or in pieces: each process writes the rows that it holds. The manifest of the state
says which rows are in which file, so that any number of processes can read it again, each the rows it needs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from paligemma2.checkpoint.weights import dtype_name
from paligemma2.errors import ConfigError
from paligemma2.training.team import Team


class Rows(NamedTuple):
    """Rows `start` up to `stop` of a tensor."""

    start: int
    stop: int


class Piece(NamedTuple):
    """Rows of a tensor that are stored in one file, under the name of the tensor."""

    file: str
    rows: Rows


class StoredPieces(NamedTuple):
    """A tensor of a state: its whole shape, its dtype, and where its rows are, in their order."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[Piece, ...]


def own_rows(tensor: Tensor) -> tuple[Tensor, Rows]:
    """What this process holds of a tensor, a view of it, and which of its rows these are.

    Raises:
        ConfigError: the tensor is shared out otherwise than by rows over one row of processes.
    """
    whole = _all_rows(tensor.shape)
    if not isinstance(tensor, DTensor):
        return tensor, whole
    if tensor.placements != (Shard(0),):
        raise ConfigError(
            f"a tensor is shared out as {tensor.placements}, a state holds rows",
            hint="shard the model with training.sharding.shard",
        )
    share: Tensor = tensor.to_local()
    most = -(-whole.stop // tensor.device_mesh.size())  # as `torch.chunk` cuts
    start = min(tensor.device_mesh.get_local_rank() * most, whole.stop)
    return share, Rows(start, start + share.shape[0])


def own_pieces(tensors: Mapping[str, Tensor], team: Team) -> dict[str, tuple[Tensor, Rows]]:
    """What this process stores: its rows of what is shared out; the first one also what all hold alike."""
    pieces = {}
    for name, tensor in tensors.items():
        share, rows = own_rows(tensor)
        if rows.start < rows.stop and (team.is_first or isinstance(tensor, DTensor)):
            pieces[name] = (share.detach(), rows)
    return pieces


def describe(
    tensors: Mapping[str, Tensor], stored: Iterable[tuple[str, Mapping[str, Rows]]]
) -> dict[str, Any]:
    """The part of a manifest that says where each tensor is.

    Args:
        tensors: of the state.
        stored: for each file its name and the rows of each tensor in it, in the order of the rows.
    """
    entries: dict[str, Any] = {
        name: {"shape": list(tensor.shape), "dtype": dtype_name(tensor.dtype), "pieces": []}
        for name, tensor in tensors.items()
    }
    for file, rows_of in stored:
        for name, rows in rows_of.items():
            entries[name]["pieces"].append({"file": file, "rows": list(rows)})
    return entries


class StateTensors(Mapping[str, Tensor]):
    """The tensors of a state by name, each read when it is asked for, and only the rows that are.

    Args:
        folder: of the state.
        entries: what `describe` gave.

    Raises:
        ValueError: the pieces of a tensor do not make up the whole.
    """

    def __init__(self, folder: Path, entries: Mapping[str, Any]) -> None:
        self._folder = folder
        self._stored = {name: _stored(name, entry) for name, entry in entries.items()}

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The whole shape of each tensor, without reading any."""
        return {name: torch.Size(stored.shape) for name, stored in self._stored.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._read(name, _all_rows(self._stored[name].shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    @torch.no_grad()
    def copy_to(self, name: str, target: Tensor) -> None:
        """Overwrite a tensor of the same shape, or this process's rows of one that is shared out."""
        share, rows = own_rows(target)
        if rows.start < rows.stop:
            share.copy_(self._read(name, rows))

    def like(self, name: str, parameter: Tensor) -> Tensor:
        """A state of an optimiser: on the device of its parameter and shared out like it, if it is as large.

        Single numbers go there, too, where fused optimisers count their steps.
        """
        if self._stored[name].shape != tuple(parameter.shape):
            return self[name].to(parameter.device)
        state = torch.empty_like(parameter, dtype=self._stored[name].dtype, requires_grad=False)
        self.copy_to(name, state)
        return state

    def _read(self, name: str, rows: Rows) -> Tensor:
        """These rows, in memory of their own."""
        stored = self._stored[name]
        if not stored.shape:
            with safe_open(self._folder / stored.pieces[0].file, "pt") as opened:
                return cast(Tensor, opened.get_tensor(name).clone())
        found = torch.empty((rows.stop - rows.start, *stored.shape[1:]), dtype=stored.dtype)
        for file, there in stored.pieces:
            start, stop = max(rows.start, there.start), min(rows.stop, there.stop)
            if start < stop:
                with safe_open(self._folder / file, "pt") as opened:
                    part = opened.get_slice(name)[start - there.start : stop - there.start]
                    found[start - rows.start : stop - rows.start] = part
        return found


def _all_rows(shape: Sequence[int]) -> Rows:
    """A single number counts as one row."""
    return Rows(0, shape[0] if shape else 1)


def _stored(name: str, entry: Mapping[str, Any]) -> StoredPieces:
    shape = tuple(entry["shape"])
    pieces = tuple(Piece(each["file"], Rows(*each["rows"])) for each in entry["pieces"])
    bounds = [0, *(row for piece in pieces for row in piece.rows), _all_rows(shape).stop]
    if bounds[::2] != bounds[1::2]:  # each piece begins where the one before it ends
        raise ValueError(f"the rows of {name} are not all stored")
    return StoredPieces(shape, getattr(torch, entry["dtype"]), pieces)
