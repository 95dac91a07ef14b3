"""Files of mask codecs, and which codec the mask tokens of a model folder belong to.

A codec is the official `vae-oid.npz` or a safetensors file of ours, both with the names of `MaskCodec`. Codes
of one codec mean nothing to another, so a folder records its codec in `mask_codec.json`.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from paligemma2.assets import MASK_CODEC_FOLDER
from paligemma2.checkpoint.atomic import new_file
from paligemma2.checkpoint.config_json import read_json
from paligemma2.checkpoint.safetensors_writer import tensor_bytes
from paligemma2.checkpoint.weights import Problems, StoredTensor, check_tensors
from paligemma2.errors import CheckpointError
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig, set_memory_format

DEFAULT = "default"
OFFICIAL_NAME = "vae-oid"
OFFICIAL_SHA256 = "5586010257b8536dddefab65e7755077f21d5672d5674dacf911f73ae95a4447"
"""Of the file `vae-oid.npz`, as its Git LFS pointer gives it."""
CODEC_FILE = "mask_codec.safetensors"
RECORD_FILE = "mask_codec.json"

_CODEBOOK = "_vq_vae._embedding"
_TRAINING_STATE = "_vq_vae."  # the averages that the codebook was made from stand beside it
_NAME_KEY = "name"
_PREFIX_LENGTH = 8
_HINT = "the file is damaged or of another model; give vae-oid.npz, or a codec of `pretrain mask-codec`"


@dataclass(frozen=True, kw_only=True)
class LoadedMaskCodec:
    """A codec and who it is.

    Attributes:
        codec: float32, on the CPU, in evaluation mode.
        name: `vae-oid` for the official one.
        fingerprint: see `fingerprint_of`.
    """

    codec: MaskCodec
    name: str
    fingerprint: str

    @property
    def record(self) -> "MaskCodecRecord":
        """What a model folder keeps about it."""
        return MaskCodecRecord(name=self.name, fingerprint=self.fingerprint)


@dataclass(frozen=True, kw_only=True)
class MaskCodecRecord:
    """Which codec the mask tokens of a model belong to."""

    name: str
    fingerprint: str


def fingerprint_of(codec: MaskCodec) -> str:
    """SHA-256 (hexadecimal) over names, shapes and float32 values of all tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(codec.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor.float()))
    return digest.hexdigest()


def load_mask_codec(source: str | Path = DEFAULT) -> LoadedMaskCodec:
    """A codec, float32.

    Args:
        source: "default" for the one inside this package, an `.npz` with the names of `vae-oid.npz`, a
            safetensors file of ours, or a folder with `mask_codec.safetensors`.

    Raises:
        CheckpointError: no such file, not a codec, or damaged; names all arrays that are missing, unexpected
            or of a wrong shape. Pickles are never read.
    """
    path = MASK_CODEC_FOLDER if source == DEFAULT else Path(source)
    if path.is_dir():
        path = path / CODEC_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such mask codec", hint="give 'default', a folder, a .safetensors or an .npz"
        )
    if path.suffix == ".npz":
        name, tensors = _read_npz(path)
    elif path.suffix == ".safetensors":
        name, tensors = _read_safetensors(path)
    else:
        raise CheckpointError(f"{path}: not a file of a mask codec", hint="give a .safetensors or an .npz")
    codec = MaskCodec(_check(path, tensors))
    codec.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    codec.eval().requires_grad_(False)
    set_memory_format(codec, torch.channels_last)
    fingerprint = fingerprint_of(codec)
    return LoadedMaskCodec(
        codec=codec, name=name or f"{path.stem}@{fingerprint[:_PREFIX_LENGTH]}", fingerprint=fingerprint
    )


def save_mask_codec(path: Path, codec: MaskCodec, name: str, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a codec as a safetensors file.

    Args:
        path: the new file, ending in `.safetensors`.
        codec: to write.
        name: what messages and records call it.
        dtype: of the stored numbers.

    Raises:
        InputError: the file exists.
        WorkError: the disk is full.
    """
    tensors = {key: tensor.to(dtype).contiguous() for key, tensor in codec.state_dict().items()}
    with new_file(path) as partial:
        # `save_file` would make a file that only its owner can read.
        partial.write_bytes(save(tensors, metadata={"format": "pt", _NAME_KEY: name}))


def record_mask_codec(folder: Path, record: MaskCodecRecord) -> None:
    """Note in a model folder which codec its mask tokens belong to."""
    path = folder / RECORD_FILE
    path.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def recorded_mask_codec(folder: Path) -> MaskCodecRecord | None:
    """The codec that a model folder names, or None if it names none.

    Raises:
        CheckpointError: the record is damaged.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        return None
    data = read_json(path)
    name, fingerprint = data.get("name"), data.get("fingerprint")
    if not isinstance(name, str) or not isinstance(fingerprint, str):
        raise CheckpointError(
            f"{path}: name and fingerprint are {name!r} and {fingerprint!r}, not two texts",
            hint="copy the file from where the model came from",
        )
    return MaskCodecRecord(name=name, fingerprint=fingerprint)


def check_mask_codec(folder: Path, loaded: LoadedMaskCodec) -> None:
    """Refuse a codec that the mask tokens of a model do not belong to.

    Args:
        folder: of the model, or the file of its weights. Without a record its tokens are the official ones.
        loaded: the codec that is to read or write them.

    Raises:
        CheckpointError: it is another codec, or the record is damaged.
    """
    record = recorded_mask_codec(folder)
    if record is None:
        if loaded.name != OFFICIAL_NAME:
            raise CheckpointError(
                f"{folder}: its mask tokens are those of the official codec, not of {loaded.name}",
                hint="pass `--mask-codec vae-oid.npz`, the file of the big_vision release",
            )
    elif record.fingerprint != loaded.fingerprint:
        raise CheckpointError(
            f"{folder}: its mask tokens are those of the codec {record.name} "
            f"({record.fingerprint[:_PREFIX_LENGTH]}), not of {loaded.name} "
            f"({loaded.fingerprint[:_PREFIX_LENGTH]})",
            hint=_how_to_get(record),
        )


def _how_to_get(record: MaskCodecRecord) -> str:
    if record.name == OFFICIAL_NAME:
        return "pass `--mask-codec vae-oid.npz`, the file of the big_vision release"
    return (
        "leave out `--mask-codec` for the codec of this package, or pass the one the model was trained with"
    )


def _read_npz(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    try:
        is_official = hashlib.sha256(path.read_bytes()).hexdigest() == OFFICIAL_SHA256
        if not zipfile.is_zipfile(path):  # numpy would read other formats under this name
            raise ValueError("it is not a zip of arrays")
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if _is_used(name)}
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}", hint=_HINT) from error
    return OFFICIAL_NAME if is_official else None, tensors


def _read_safetensors(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.offset_keys() if _is_used(name)}
            return (file.metadata() or {}).get(_NAME_KEY), tensors
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}", hint=_HINT) from error


def _is_used(name: str) -> bool:
    return name == _CODEBOOK or not name.startswith(_TRAINING_STATE)


def _check(path: Path, tensors: Mapping[str, Tensor]) -> MaskCodecConfig:
    """The configuration that the codebook tells, once all arrays fit it."""
    codebook = tensors.get(_CODEBOOK)
    config = MaskCodecConfig()
    if codebook is not None and codebook.dim() == 2 and codebook.shape[1] > 0:
        config = MaskCodecConfig(embedding_size=codebook.shape[1])
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in MaskCodec(config).state_dict().items()}
    found = {name: StoredTensor(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    problems = Problems()
    check_tensors(found, expected, problems)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            problems.add("not finite", name)
    problems.raise_if_any(path, hint=_HINT)
    return config
