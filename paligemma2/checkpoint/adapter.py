"""Adapters as folders of `peft`: `adapter_config.json` and `adapter_model.safetensors`.

The keys are `base_model.model.<module>.lora_A.weight` [rank, in] and `….lora_B.weight` [out, rank], where
`<module>` is the layer's name in one of the layouts of `transformers`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from paligemma2.checkpoint.adapter_config import (
    AdapterConfig,
    config_of,
    config_to_json,
    read_adapter_config,
)
from paligemma2.checkpoint.atomic import new_folder, write_json
from paligemma2.checkpoint.layouts import KeyLayout, stored_name
from paligemma2.checkpoint.weights import Problems, StoredTensor, check_tensors
from paligemma2.errors import CheckpointError, ConfigError, InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import Adapter, LowRank
from paligemma2.model.paligemma2 import linear_shapes

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"


def read_adapter(folder: str | Path, config: ModelConfig) -> Adapter:
    """The adapter in a folder, on the CPU, in the dtype of the file.

    Args:
        folder: as `peft` writes it, with keys in any of the layouts.
        config: of the model that it is for.

    Raises:
        InputError: no such folder.
        ConfigError: it is no LoRA, or one with settings that are not supported here.
        CheckpointError: a file is absent or damaged, or the tensors are not exactly those that the settings
            and the model tell; names all that are missing, unexpected or of a wrong shape.
    """
    path = Path(folder).expanduser()
    _check_files(path)
    settings = read_adapter_config(path / CONFIG_FILE)
    tensors = _read(path / WEIGHTS_FILE)
    shapes = linear_shapes(config)
    tables = [_modules(settings, shapes, layout) for layout in get_args(KeyLayout)]
    expected = [_expected(settings, table, shapes) for table in tables]
    best = min(range(len(tables)), key=lambda place: len(expected[place].keys() ^ tensors.keys()))
    if not tables[best]:
        raise ConfigError(
            f"{path / CONFIG_FILE}: target_modules {settings.targets!r} are no linear layers of the model",
            hint="give an adapter for PaliGemma 2",
        )
    _check(path, settings, tensors, expected[best])
    changes = {}
    for module, layer in tables[best].items():
        a, b = (tensors[key] for key in _keys(module))
        changes[layer] = LowRank(a, b, settings.alpha_of(module))
    return Adapter(
        changes=changes, is_rank_stabilized=settings.is_rank_stabilized, base_model=settings.base_model
    )


def save_adapter(
    folder: Path,
    adapter: Adapter,
    config: ModelConfig,
    *,
    keys: KeyLayout = "new",
    overwrite: bool = False,
    records: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write a folder that this package and `peft` load.

    It is written beside `folder` and renamed at the end; an error leaves what was there before.

    Args:
        folder: the new folder.
        adapter: changes at least one layer.
        config: of the model that it is for.
        keys: names as in `transformers` up to 4.51 ("legacy"), from 4.52 ("nested") or in 5.x ("new"); the
            last two differ in the image encoder alone.
        overwrite: replace an existing folder, with all that is in it.
        records: further JSON files of the folder by name, such as how the adapter came about.

    Raises:
        InputError: the folder exists, or the adapter changes nothing.
        WorkError: the disk is full.
    """
    if not adapter.changes:
        raise InputError("the adapter changes no layer", hint="give one with at least one change")
    tensors: dict[str, Tensor] = {}
    for layer, (a, b, _) in adapter.changes.items():
        for key, tensor in zip(_keys(stored_name(layer, keys)), (a, b), strict=True):
            tensors[key] = tensor.detach().cpu().contiguous()
    settings = config_to_json(config_of(adapter, linear_shapes(config)))
    with new_folder(folder, overwrite=overwrite) as partial:
        write_json(partial / CONFIG_FILE, settings)
        for name, record in (records or {}).items():
            write_json(partial / name, record)
        # `save_file` would make a file that only its owner can read.
        (partial / WEIGHTS_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            f"no adapter at {folder}", hint=f"give a folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    if (folder / _PICKLE).is_file() and not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(
            f"{folder}: the weights are in {_PICKLE}, a pickle, which is never read because it can run code",
            hint=f"get {WEIGHTS_FILE} of this adapter",
        )
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            hint = (
                "give it with `--model`"
                if (folder / "config.json").is_file()
                else "give a folder of peft, or download it again"
            )
            raise CheckpointError(f"{folder}: no {name}", hint=hint)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            # The library maps the file; a copy lets go of it at once.
            return {key: opened.get_tensor(key).clone() for key in opened.offset_keys()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}", hint="download it again") from error


def _modules(
    settings: AdapterConfig, shapes: Mapping[str, tuple[int, int]], layout: KeyLayout
) -> dict[str, str]:
    """Our name of every layer that is changed, by its name in this layout."""
    modules = {stored_name(layer, layout): layer for layer in shapes}
    return {module: layer for module, layer in modules.items() if settings.changes(module)}


def _expected(
    settings: AdapterConfig, modules: Mapping[str, str], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, ...]]:
    expected: dict[str, tuple[int, ...]] = {}
    for module, layer in modules.items():
        (num_out, num_in), rank = shapes[layer], settings.rank_of(module)
        expected |= zip(_keys(module), ((rank, num_in), (num_out, rank)), strict=True)
    return expected


def _keys(module: str) -> tuple[str, str]:
    return f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight"


def _check(
    folder: Path,
    settings: AdapterConfig,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
) -> None:
    problems = Problems()
    found = {key: StoredTensor(tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    check_tensors(found, expected, problems)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            problems.add("not finite", key)
    made_for = f"it was made for {settings.base_model}" if settings.base_model else "it is for another model"
    problems.raise_if_any(folder, hint=f"the adapter is damaged, or {made_for} and not for this one")
