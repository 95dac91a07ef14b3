"""Reading `model*.safetensors` of a Hugging Face folder: all headers first, then tensor by tensor."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from paligemma2.checkpoint.config_json import read_json
from paligemma2.checkpoint.layouts import EMBEDDING, is_head, normalise
from paligemma2.checkpoint.weights import Problems, StoredTensor, check_tensors
from paligemma2.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_HINT = "the folder is incomplete, damaged or of another model; download it again, or correct config.json"
_PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
_COMPARED_ROWS = 16384


@dataclass(frozen=True)
class _Place:
    """Where a tensor stands: a file, the name there, and what its header says."""

    file: Path
    name: str
    tensor: StoredTensor


class SafetensorsFolder:
    """The weights of a Hugging Face folder; see `Weights`. Nothing stays open between reads, and what is
    streamed is mapped only as long as it is kept.
    """

    num_zero_rows = 0

    def __init__(self, path: Path, places: Mapping[str, _Place]) -> None:
        self.path = path
        self._places = places

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """All tensors by our names, in the order of the shards."""
        return {name: place.tensor for name, place in self._places.items()}

    @property
    def layout(self) -> str:
        """Which of Hugging Face's name layouts this is."""
        stored = self._places[EMBEDDING].name
        if stored.startswith("language_model.model."):
            return "Hugging Face (legacy)"
        return "Hugging Face (new)" if stored.startswith("model.") else "Hugging Face (plain)"

    def read(self, name: str) -> Tensor:
        """One tensor, a copy in memory of its own."""
        return _mapped(self._places[name]).clone()  # which lets go of the file at once

    def stream(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, shard by shard, in the mapped file."""
        for name, place in self._places.items():
            yield name, _mapped(place)


def open_folder(
    folder: Path,
    expected: Mapping[str, tuple[int, ...]],
    *,
    compare_head: bool = True,
    integers: Collection[str] = (),
) -> SafetensorsFolder:
    """The weights of a folder, after all checks that need no weights in memory.

    Args:
        folder: with `model.safetensors`, or shards and their index.
        expected: our names and shapes of all tensors.
        compare_head: also read a stored output layer and compare it with the embedding.
        integers: the names of those that must be whole numbers of 8 bits.

    Raises:
        CheckpointError: names all that is missing, unexpected, of a wrong shape, not floating point, stored
            twice, truncated or absent.
    """
    problems = Problems()
    places: dict[str, _Place] = {}
    heads: list[_Place] = []
    for file, listed in _shards(folder, problems).items():
        for place in _header(file, listed, problems):
            name = normalise(place.name)
            if is_head(place.name):
                heads.append(place)
            elif name in places:
                problems.add("stored twice", name)
            else:
                places[name] = place
    is_complete = "damaged" not in problems and "absent" not in problems
    found = {name: place.tensor for name, place in places.items()}
    check_tensors(found, expected, problems, is_complete=is_complete, integers=integers)
    if not problems and compare_head:
        for head in heads:
            if not _is_same(head, places[EMBEDDING]):
                problems.add("unlike the embedding that it must equal", head.name)
    problems.raise_if_any(folder, hint=_HINT)
    return SafetensorsFolder(folder, places)


def _shards(folder: Path, problems: Problems) -> dict[Path, set[str] | None]:
    """Every file to read, with the names that the index lists for it (None without an index)."""
    if (folder / SINGLE_FILE).is_file():
        return {folder / SINGLE_FILE: None}
    index = folder / INDEX_FILE
    if not index.is_file():
        raise _no_weights(folder)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError(f"{index}: weight_map is not a list of tensors and files", hint=_HINT)
    shards: dict[Path, set[str] | None] = {}
    for file in sorted(set(weight_map.values())):
        if Path(file).name != file or "\\" in file or file in ("", ".", ".."):
            problems.add("file names that leave the folder", repr(file))
        elif not (folder / file).is_file():
            problems.add("absent", file)
        else:
            shards[folder / file] = {name for name, where in weight_map.items() if where == file}
    return shards


def _header(file: Path, listed: set[str] | None, problems: Problems) -> list[_Place]:
    places = []
    try:
        with safe_open(file, framework="pt") as shard:
            for name in shard.offset_keys():
                piece = shard.get_slice(name)
                dtype = _DTYPES.get(piece.get_dtype())
                if dtype is None:
                    problems.add("of an unknown type", f"{name}: {piece.get_dtype()}")
                else:
                    places.append(_Place(file, name, StoredTensor(tuple(piece.get_shape()), dtype)))
    except (OSError, SafetensorError) as error:
        problems.add("damaged", f"{file.name}: {error}")
        return []
    names = {place.name for place in places}
    for name in sorted((listed or names) ^ names):
        problems.add("not where the index says", f"{name} in {file.name}")
    return places


def _mapped(place: _Place) -> Tensor:
    try:
        with safe_open(place.file, framework="pt") as shard:
            tensor: Tensor = shard.get_tensor(place.name)
            return tensor
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{place.file}: {place.name} cannot be read: {error}", hint=_HINT) from error


def _is_same(head: _Place, embedding: _Place) -> bool:
    if head.tensor.shape != embedding.tensor.shape:
        return False
    try:
        with (
            safe_open(head.file, framework="pt") as first,
            safe_open(embedding.file, framework="pt") as second,
        ):
            one, other = first.get_slice(head.name), second.get_slice(embedding.name)
            pieces = (
                (one[start : start + _COMPARED_ROWS], other[start : start + _COMPARED_ROWS])
                for start in range(0, head.tensor.shape[0], _COMPARED_ROWS)
            )
            return all(torch.equal(piece.float(), same.float()) for piece, same in pieces)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{head.file}: {head.name} cannot be read: {error}", hint=_HINT) from error


def _no_weights(folder: Path) -> CheckpointError:
    names = sorted(path.name for path in folder.iterdir())
    if any(name.endswith(_PICKLE_ENDINGS) for name in names):
        first = next(name for name in names if name.endswith(_PICKLE_ENDINGS))
        return CheckpointError(
            f"{folder}: the weights are in {first}, a pickle, which is never read because it can run code",
            hint="get the safetensors files of this model",
        )
    for name in names:
        if name.endswith(".npz"):
            return CheckpointError(
                f"{folder}: no model.safetensors", hint=f"give the file itself: {folder / name}"
            )
    if "adapter_model.safetensors" in names:
        return CheckpointError(f"{folder}: an adapter, not a whole model", hint="give the base model")
    loose = [name for name in names if name.endswith(".safetensors")]
    if loose:
        return CheckpointError(f"{folder}: {INDEX_FILE} is absent, but {loose[0]} is there", hint=_HINT)
    return CheckpointError(
        f"{folder}: neither {SINGLE_FILE} nor {INDEX_FILE}", hint="give a folder with weights"
    )
