import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from paligemma2.checkpoint.safetensors_writer import (
    WRITABLE,
    SafetensorsWriter,
    save_file,
    tensor_bytes,
)
from paligemma2.checkpoint.weights import StoredTensor
from paligemma2.errors import InputError


def planned(tensors: dict[str, torch.Tensor]) -> dict[str, StoredTensor]:
    return {name: StoredTensor(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def test_the_library_reads_what_is_written_in_any_order(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.randn(3 + i, 5).to(dtype) for i, dtype in enumerate(WRITABLE)}
    tensors["turned"] = torch.randn(4, 6).T
    with SafetensorsWriter(tmp_path, planned(tensors)) as writer:
        for name in reversed(tensors):
            writer.write(name, tensors[name])
    read = load_file(tmp_path / "model.safetensors")
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype is tensor.dtype
        assert torch.equal(read[name].double(), tensor.double())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_are_no_larger_than_asked_and_the_index_finds_all(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.full((10,), float(i)) for i in range(7)} | {"large": torch.ones(50)}
    with SafetensorsWriter(tmp_path, planned(tensors), max_shard_size=100) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 7 * 40 + 200
    assert sorted(set(index["weight_map"].values())) == [
        f"model-0000{i}-of-00005.safetensors" for i in range(1, 6)
    ]
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], tensors[name])


def test_a_tensor_is_converted_to_the_dtype_announced(tmp_path: Path) -> None:
    with SafetensorsWriter(tmp_path, {"a": StoredTensor((2,), torch.bfloat16)}) as writer:
        writer.write("a", torch.tensor([1.0, 1e-3]))
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], torch.tensor([1.0, 1e-3]).bfloat16())


def test_a_dtype_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        SafetensorsWriter(tmp_path, {"a": StoredTensor((2,), torch.complex64)})


def test_a_forgotten_tensor_is_our_own_mistake(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="not written"),
        SafetensorsWriter(tmp_path, {"a": StoredTensor((2,), torch.float32)}),
    ):
        pass


def test_a_single_file_is_read_by_the_library(tmp_path: Path) -> None:
    tensors = {"turned": torch.arange(6).view(2, 3).T, "number": torch.tensor(2.5), "none": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "a.safetensors")
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype is tensor.dtype


def test_bytes_of_a_tensor_are_in_row_order() -> None:
    turned = torch.arange(6, dtype=torch.int16).view(2, 3).T
    assert bytes(tensor_bytes(turned)) == bytes([0, 0, 3, 0, 1, 0, 4, 0, 2, 0, 5, 0])
