import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from paligemma2.checkpoint.adapter import read_adapter
from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.checkpoint.load import load_model
from paligemma2.errors import CheckpointError, InputError, WorkError
from paligemma2.jobs import convert
from tests.jobs.small_checkpoint import CONFIG, save_small_checkpoint
from tests.small_adapter import merged, save_random_adapter


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_small_checkpoint(tmp_path / "hf", request.param)
    (tmp_path / "hf" / "tokenizer.json").write_text("{}")
    return tmp_path / "hf"


def test_to_big_vision_and_back_changes_no_bit_that_text_can_use(tmp_path: Path, folder: Path) -> None:
    there = convert.run(folder, tmp_path / "bv" / "a.npz")
    back = convert.run(there.destination, tmp_path / "back")
    assert (there.num_dropped_rows, there.num_zero_rows) == (8, 0)
    assert (back.num_dropped_rows, back.num_zero_rows) == (0, 8)
    before, after = load_model(folder), load_model(tmp_path / "back")
    assert after.config == before.config
    for name, tensor in before.model.state_dict().items():
        other = after.model.state_dict()[name]
        assert other.dtype is tensor.dtype
        rows = CONFIG.num_text_rows if name == EMBEDDING else len(tensor)
        assert torch.equal(other[:rows], tensor[:rows]), name
        assert not other[rows:].any()


def test_a_second_trip_gives_the_same_file(tmp_path: Path, folder: Path) -> None:
    convert.run(folder, tmp_path / "one" / "a.npz")
    convert.run(tmp_path / "one" / "a.npz", tmp_path / "back")
    convert.run(tmp_path / "back", tmp_path / "two" / "a.npz")
    assert (tmp_path / "one" / "a.npz").read_bytes() == (tmp_path / "two" / "a.npz").read_bytes()


def test_the_dtype_changes_and_the_settings_follow(tmp_path: Path, folder: Path) -> None:
    report = convert.run(folder, tmp_path / "half", dtype=torch.float16)
    assert report.dtype == "float16"
    assert report.tokenizer_files == ("tokenizer.json",)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "float16"
    expected = load_model(folder).model.state_dict()
    for name, tensor in load_model(tmp_path / "half").model.state_dict().items():
        assert torch.equal(tensor, expected[name].half()), name


def test_a_size_that_shapes_do_not_tell_gets_a_config_json_beside(tmp_path: Path, folder: Path) -> None:
    convert.run(folder, tmp_path / "bv" / "a.npz")
    assert read_config(tmp_path / "bv") == CONFIG
    convert.run(folder, tmp_path / "bv" / "b.npz")
    (tmp_path / "other").mkdir()
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["rope_theta"] = settings["text_config"]["rope_parameters"]["rope_theta"] = 5.0
    (tmp_path / "other" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="describes another model"):
        convert.run(folder, tmp_path / "other" / "a.npz")


def test_what_exists_is_kept_unless_asked(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.npz").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        convert.run(folder, tmp_path / "a.npz")
    with pytest.raises(InputError, match="already exists"):
        convert.run(tmp_path / "hf", tmp_path)
    with pytest.raises(InputError, match="over itself"):
        convert.run(folder, folder, overwrite=True)
    convert.run(folder, tmp_path / "a.npz", overwrite=True)
    assert load_model(tmp_path / "a.npz").config == CONFIG


def test_it_tells_how_far_it_is(tmp_path: Path, folder: Path) -> None:
    for number, destination in enumerate(("b/a.npz", "folder")):
        calls: list[tuple[int, int]] = []
        convert.run(folder, tmp_path / destination, on_progress=lambda *call, to=calls: to.append(call))
        assert calls == sorted(calls), number
        assert calls[-1][0] == calls[-1][1]


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The system refuses files over 20 kB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["a.npz", "out"])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, folder: Path, small_files_only: None, name: str
) -> None:
    with pytest.raises(WorkError, match="the disk is full"):
        convert.run(folder, tmp_path / "new" / name)
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_a_damaged_source_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="damaged"):
        convert.run(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_npz_cannot_be_quantised(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"a \.npz holds no quantised weights"):
        convert.run(folder, tmp_path / "low.npz", quantize="int8")
    assert not (tmp_path / "low.npz").exists()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_random_adapter(tmp_path / "adapter", CONFIG)


def test_an_adapter_is_merged_into_what_is_written(tmp_path: Path, folder: Path, adapter: Path) -> None:
    calls: list[tuple[int, int]] = []
    for name in ("new", "npz/a.npz"):
        report = convert.run(
            folder, tmp_path / name, adapter=adapter, on_progress=lambda *call: calls.append(call)
        )
        assert calls[-1][0] == calls[-1][1]
        before, after = load_model(folder), load_model(tmp_path / name)
        assert report.dtype == str(before.model.dtype).removeprefix("torch.")
        expected = merged(before.model.float(), read_adapter(adapter, CONFIG)).state_dict()
        for key, tensor in after.model.state_dict().items():
            rows = CONFIG.num_text_rows if key == EMBEDDING else len(tensor)
            torch.testing.assert_close(
                tensor[:rows], expected[key].to(tensor.dtype)[:rows], atol=0, rtol=1e-2
            )


def test_merging_comes_before_rounding(tmp_path: Path, folder: Path, adapter: Path) -> None:
    convert.run(folder, tmp_path / "both", adapter=adapter, quantize="int8")
    convert.run(folder, tmp_path / "merged", adapter=adapter, dtype=torch.float32)
    convert.run(tmp_path / "merged", tmp_path / "then", quantize="int8")
    both, then = (load_file(tmp_path / name / "model.safetensors") for name in ("both", "then"))
    assert both.keys() == then.keys()
    assert all(torch.equal(tensor, then[name]) for name, tensor in both.items() if tensor.dtype == torch.int8)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_an_adapter_is_never_merged_into_rounded_weights(
    tmp_path: Path, folder: Path, adapter: Path, kind: str
) -> None:
    convert.run(folder, tmp_path / "low", quantize=kind)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"holds {kind} weights, which cannot be changed") as raised:
        convert.run(tmp_path / "low", tmp_path / "new", adapter=adapter)
    assert "take the checkpoint that it was made from" in raised.value.hint
    assert not (tmp_path / "new").exists()


def test_an_adapter_that_does_not_fit_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    other = replace(CONFIG, text=replace(CONFIG.text, hidden_size=24))
    save_random_adapter(tmp_path / "other", other)
    with pytest.raises(CheckpointError, match="with a wrong shape"):
        convert.run(folder, tmp_path / "new", adapter=tmp_path / "other")
    with pytest.raises(InputError, match="no adapter at"):
        convert.run(folder, tmp_path / "new", adapter=tmp_path / "nowhere")
    assert not (tmp_path / "new").exists()
