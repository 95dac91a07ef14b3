import json
import re

import pytest
import torch

from paligemma2.checkpoint.load import load_model
from tests.small_adapter import save_random_adapter
from tests.small_model import small_config


def test_a_folder_becomes_an_npz_and_back(run, folder, tmp_path):
    there = run("convert", folder, tmp_path / "m.npz", "--dtype", "bfloat16")
    assert (there.code, there.out) == (0, f"{tmp_path / 'm.npz'}: 63 tensors, bfloat16\n")
    assert "6 rows of the vocabulary (<image>, filler) have no place" in there.err
    back = run("convert", tmp_path / "m.npz", tmp_path / "back")
    assert back.code == 0
    assert "written as zeros" in back.err
    assert "has no tokenizer" in back.err
    assert load_model(tmp_path / "back").config == load_model(folder).config


def test_the_tokenizer_travels_with_a_folder(run, folder, tmp_path):
    ended = run("convert", folder, tmp_path / "copy")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "copy" / "tokenizer.json").is_file()


@pytest.mark.parametrize("dtype", ["int8", "nonsense"])
def test_a_dtype_that_cannot_be_stored_is_refused(run, folder, tmp_path, dtype):
    ended = run("convert", folder, tmp_path / "m", "--dtype", dtype)
    assert ended.has_failed_with(f"dtype '{dtype}' cannot be stored"), ended


def test_what_exists_is_replaced_only_when_asked(run, folder, tmp_path):
    (tmp_path / "m.npz").write_text("mine")
    ended = run("convert", folder, tmp_path / "m.npz")
    assert ended.has_failed_with("already exists"), ended
    assert (tmp_path / "m.npz").read_text() == "mine"
    assert run("convert", folder, tmp_path / "m.npz", "--overwrite").code == 0
    assert (tmp_path / "m.npz").stat().st_size > 100_000


def test_an_unknown_source_is_refused(run, tmp_path):
    ended = run("convert", tmp_path / "nowhere", tmp_path / "m")
    assert ended.has_failed_with("no checkpoint at"), ended


@pytest.fixture
def adapter(tmp_path):
    return save_random_adapter(tmp_path / "adapter", small_config())


def test_an_adapter_is_merged_and_the_difference_is_told(run, folder, adapter, tmp_path):
    ended = run("convert", folder, tmp_path / "new", "--adapter", adapter)
    assert ended.code == 0, ended
    assert re.search(r"largest difference +\d.*e-\d\d, of logits up to \d", ended.out), ended
    weights = load_model(folder).model.state_dict(), load_model(tmp_path / "new").model.state_dict()
    q = "language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(weights[0][q], weights[1][q])


def test_held_out_examples_are_scored_before_and_after_merging(run, folder, adapter, pictures, tmp_path):
    line = {"image": str(pictures[0]), "prefix": "caption en", "suffix": "?"}
    (tmp_path / "_annotations.valid.jsonl").write_text(json.dumps(line))
    ended = run("convert", folder, tmp_path / "new", "--adapter", adapter, "--data", tmp_path)
    assert ended.code == 0, ended
    assert re.search(r"exact match, 1 held-out examples", ended.out), ended
    assert re.search(r"base and adapter +0\.000\s+merged +0\.000", ended.out), ended
    assert "convert: answering" in ended.err


def test_examples_without_an_adapter_are_a_mistake(run, folder, tmp_path):
    ended = run("convert", folder, tmp_path / "new", "--data", tmp_path)
    assert ended.has_failed_with("--data is given and --adapter is not"), ended
    assert not (tmp_path / "new").exists()
