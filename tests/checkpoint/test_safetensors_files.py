import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paligemma2.checkpoint.layouts import EMBEDDING, expected_shapes
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.safetensors_files import INDEX_FILE, SINGLE_FILE, open_folder
from paligemma2.checkpoint.save import save_model
from paligemma2.errors import CheckpointError
from tests.checkpoint.small_checkpoints import random_model, small_config

HEAD = "language_model.lm_head.weight"
TABLE = "language_model.model.embed_tokens.weight"
NORM = "language_model.model.norm.weight"
BIAS = "multi_modal_projector.linear.bias"
Tensors = dict[str, Tensor]


def refused(folder: Path) -> str:
    """The message of the one error that opening and loading give."""
    with pytest.raises(CheckpointError) as raised:
        open_folder(folder, expected_shapes(small_config()))
    with pytest.raises(CheckpointError) as again:
        load_model(folder)
    assert again.value.message == raised.value.message
    assert raised.value.hint
    assert "\n" not in str(raised.value)
    return raised.value.message


def edit(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / SINGLE_FILE)
    change(tensors)
    save_file(tensors, folder / SINGLE_FILE)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    config = small_config()
    save_model(tmp_path / "shards", random_model(config), config, max_shard_size=300_000)
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) >= 3
    return tmp_path / "shards"


def edit_index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((folder / INDEX_FILE).read_text())
    change(index["weight_map"])
    (folder / INDEX_FILE).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(NORM), "1 missing (language_model.norm.weight)"),
        (lambda t: t.update(extra=torch.zeros(2)), "1 unexpected (extra)"),
        (lambda t: t.update({NORM: torch.zeros(65)}), "with a wrong shape (language_model.norm.weight: [65]"),
        (lambda t: t.update({BIAS: torch.zeros(64).int()}), "not floating point (multi_modal_projector"),
        (lambda t: t.update({"model.language_model.norm.weight": torch.ones(64)}), "1 stored twice"),
        (lambda t: t.update({HEAD: t[TABLE] + 1}), f"1 unlike the embedding that it must equal ({HEAD})"),
        (lambda t: t.update({HEAD: t[TABLE][:-1].clone()}), "1 unlike the embedding"),
        (lambda t: t.update({BIAS: torch.zeros(64, dtype=torch.complex64)}), "1 of an unknown type"),
    ],
)
def test_a_wrong_tensor_is_named(folder: Path, change: Callable[[Tensors], object], said: str) -> None:
    edit(folder, change)
    assert said in refused(folder)


def test_several_faults_are_told_at_once(folder: Path) -> None:
    edit(folder, lambda t: (t.pop(NORM), t.pop(BIAS), t.update(extra=torch.zeros(2))))
    message = refused(folder)
    assert "2 missing" in message
    assert "1 unexpected" in message


@pytest.mark.parametrize("name", [HEAD, "lm_head.weight"])
def test_a_stored_head_that_equals_the_embedding_is_accepted(folder: Path, name: str) -> None:
    edit(folder, lambda t: t.update({name: t[TABLE].clone()}))
    assert EMBEDDING in open_folder(folder, expected_shapes(small_config())).tensors


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_any_floating_dtype_converts(folder: Path, dtype: torch.dtype) -> None:
    edit(folder, lambda t: t.update({name: tensor.to(dtype) for name, tensor in t.items()}))
    loaded = load_model(folder, dtype=torch.float32)
    assert loaded.model.dtype is torch.float32
    stored = load_file(folder / SINGLE_FILE)[NORM].float()
    assert torch.equal(loaded.model.language_model.norm.weight, stored)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_damaged(folder: Path, kept: int) -> None:
    path = folder / SINGLE_FILE
    path.write_bytes(path.read_bytes()[:kept])
    message = refused(folder)
    assert "1 damaged (model.safetensors: " in message
    assert "missing" not in message


def test_a_truncated_shard_is_named(shards: Path) -> None:
    path = shards / "model-00002-of-00004.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "1 damaged (model-00002-of-00004.safetensors: " in refused(shards)


def test_an_index_that_names_an_absent_file(shards: Path) -> None:
    (shards / "model-00003-of-00004.safetensors").unlink()
    assert "1 absent (model-00003-of-00004.safetensors)" in refused(shards)


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b"])
def test_an_index_cannot_reach_out_of_the_folder(shards: Path, file: str) -> None:
    edit_index(shards, lambda weight_map: weight_map.update({NORM: file}))
    assert "1 file names that leave the folder" in refused(shards)


def test_an_index_that_sends_to_the_wrong_shard(shards: Path) -> None:
    edit_index(shards, lambda weight_map: weight_map.update({NORM: "model-00001-of-00004.safetensors"}))
    assert "2 not where the index says" in refused(shards)


def test_an_index_that_lists_a_tensor_twice(shards: Path) -> None:
    path = shards / INDEX_FILE
    path.write_text(path.read_text().replace('"weight_map": {', f'"weight_map": {{"{NORM}": "x",'))
    assert "listed twice" in refused(shards)


def test_a_tensor_in_two_shards_is_stored_twice(shards: Path) -> None:
    first, last = shards / "model-00001-of-00004.safetensors", shards / "model-00004-of-00004.safetensors"
    save_file({**load_file(first), NORM: load_file(last)[NORM]}, first)
    assert "1 stored twice (language_model.norm.weight)" in refused(shards)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_an_index_without_a_usable_map(shards: Path, text: str) -> None:
    (shards / INDEX_FILE).write_text(text)
    assert "weight_map" in refused(shards)


def test_an_index_that_is_not_json(shards: Path) -> None:
    (shards / INDEX_FILE).write_text("oops")
    assert "not a JSON file" in refused(shards)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pytorch_model.bin", "a pickle, which is never read"),
        ("pytorch_model-00001-of-00002.bin", "a pickle, which is never read"),
        ("consolidated.pth", "a pickle, which is never read"),
        ("pt_3b.npz", "no model.safetensors"),
        ("adapter_model.safetensors", "an adapter, not a whole model"),
        ("model-00001-of-00002.safetensors", "model.safetensors.index.json is absent"),
        ("notes.txt", "neither model.safetensors nor model.safetensors.index.json"),
    ],
)
def test_a_folder_without_safetensors_says_what_it_has(folder: Path, name: str, said: str) -> None:
    (folder / SINGLE_FILE).rename(folder / name)
    assert said in refused(folder)


def test_nothing_stays_mapped_after_reading(folder: Path) -> None:
    weights = open_folder(folder, expected_shapes(small_config()))
    read = {name: weights.read(name) for name in weights.tensors}
    for name, tensor in weights.stream():
        assert torch.equal(tensor, read[name])
    del tensor
    load_model(folder)
    assert str(folder) not in Path("/proc/self/maps").read_text()


def test_no_line_of_the_package_reads_or_writes_pickle() -> None:
    """But for RefCOCO's files: read without the danger, and written in miniature."""
    package = Path(__file__).resolve().parents[2] / "paligemma2"
    pattern = r"torch\.(load|save)\(|import pickle|pickle\.(load|dump)|allow_pickle=True|np\.load\("
    found = subprocess.run(["grep", "-rnE", pattern, str(package), "--include=*.py"], capture_output=True)
    allowed = ("allow_pickle=False", "/data/readers/plain_pickle.py:", "/data/miniatures/files.py:")
    lines = found.stdout.decode().splitlines()
    assert [line for line in lines if not any(each in line for each in allowed)] == []
