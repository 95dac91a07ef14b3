import dataclasses

import pytest
import torch

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.adapter import read_adapter, save_adapter
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.save import save_model
from paligemma2.errors import CheckpointError, InputError
from paligemma2.inference import devices
from paligemma2.inference.loading import load
from paligemma2.jobs.convert import run as convert
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.lora_training import add_adapter, add_fresh_adapter, take_out
from paligemma2.types import Decoding
from tests.several_processes import in_processes
from tests.small_adapter import save_random_adapter
from tests.small_model import save_small_model, small_config

DECODINGS = (
    Decoding(max_new_tokens=6),
    Decoding(max_new_tokens=6, method="sample", seed=3, top_p=0.9),
    Decoding(max_new_tokens=6, method="beam", beams=3),
)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("nonsense", "'tiny' is the small model"),
        ("paligemma2-3b-pt-225", "google/paligemma2-3b-pt-224"),
        ("paligemma2-3b-mix-448", "google/paligemma2-3b-mix-448"),
        ("./no/such/folder", "give a folder"),
    ],
)
def test_an_unknown_model_suggests_what_to_give(name, suggestion):
    with pytest.raises(InputError, match="no checkpoint at") as raised:
        load(name)
    assert suggestion in raised.value.hint


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        load(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("device", "no such thing"), ("dtype", "float16")])
def test_a_device_and_a_dtype_that_cannot_be_had_are_refused(folder, name, value):
    with pytest.raises(InputError, match=f"'{value}' is not"):
        load(folder, **{name: value})


@pytest.mark.parametrize(("stored", "loaded"), [("bfloat16", "bfloat16"), ("float16", "float32")])
def test_the_dtype_of_the_file_is_kept_unless_it_overflows(
    folder, tmp_path, stored, loaded, array, monkeypatch
):
    monkeypatch.setattr(devices, "has_bfloat16_arithmetic", lambda: True)
    small = load_model(folder)
    save_model(tmp_path / "m", small.model, small.config, dtype=getattr(torch, stored), files_from=folder)
    model = load(tmp_path / "m", device="cpu")
    assert model.model.dtype == getattr(torch, loaded)
    assert model.generate(array, "caption en", 3)


def test_loading_reports_its_progress(folder):
    calls = []
    load(folder, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0


@pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the small model is not in this checkout")
def test_the_small_model_inside_the_package_runs_in_float32(array):
    model = load("tiny", device="cpu")
    assert model.model.dtype == torch.float32
    assert model.caption(array)


def test_two_models_of_different_seeds_answer_differently(folder, tmp_path, array):
    other = load(save_small_model(tmp_path / "other", seed=1))
    assert other.generate(array, "caption en", 6) != load(folder).generate(array, "caption en", 6)


def test_an_adapter_goes_onto_weights_of_16_bits_too(folder, adapters, tmp_path, array, monkeypatch):
    monkeypatch.setattr(devices, "has_bfloat16_arithmetic", lambda: False)
    small = load_model(folder)
    save_model(tmp_path / "m", small.model, small.config, dtype=torch.bfloat16, files_from=folder)
    model = load(tmp_path / "m", device="cpu", adapter=adapters)
    assert {layer.dtype for layer in model.model.parameters()} == {torch.float32}
    names = [None, "first", "sees"]
    batch = model.generate([array] * 3, ["caption en"] * 3, 6, adapter=names)
    assert batch == [model.generate(array, "caption en", 6, adapter=name)[0] for name in names]
    assert batch[0] == load(tmp_path / "m", device="cpu").generate(array, "caption en", 6)[0]
    assert len({answer.token_ids for answer in batch}) == 3


def test_an_adapter_of_another_model_is_refused(folder, tmp_path):
    text = dataclasses.replace(small_config().text, num_layers=3, sliding_layers=())
    config = dataclasses.replace(small_config(), text=text)
    other = save_random_adapter(tmp_path / "other", config)
    with pytest.raises(CheckpointError, match="14 unexpected"):
        load(folder, adapter={"it": other})
    with pytest.raises(InputError, match="no adapter at"):
        load(folder, adapter=tmp_path / "nowhere")


def test_a_single_adapter_is_called_as_its_folder_is(folder, adapters, monkeypatch):
    monkeypatch.chdir(adapters["second"])
    assert load(folder, adapter=".").adapter == "second"
    assert load(folder, adapter=str(adapters["first"])).adapter == "first"
    assert load(folder, adapter=adapters).adapter is None


@pytest.mark.parametrize(("kind", "largest"), [("int8", 0.1), ("int4", 0.4), ("w8a8", 0.1)])
def test_rounded_weights_write_nearly_as_likely_answers(folder, array, kind, largest):
    whole = load(folder, device="cpu")
    rounded = load(folder, device="cpu", quantize=kind)
    (answer,) = whole.generate(array, "caption en", 6)
    (scored,), (again,) = (each.score(array, "caption en", [answer.text]) for each in (whole, rounded))
    # Measured: 0.04 nats with 8 bits, 0.20 with 4; without the rounding it would be 0.
    off = [abs(one - other) for one, other in zip(scored.log_probs, again.log_probs, strict=True)]
    assert 0 < max(off) < largest


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"quantize": "int3"}, "quantize is 'int3'"),
        ({"quantize": "w8a8", "for_training": True}, "quantize is 'w8a8' for a model that is trained"),
    ],
)
def test_quantising_that_makes_no_sense_is_refused(folder, settings, match):
    with pytest.raises(InputError, match=match):
        load(folder, **settings)


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_an_adapter_is_trained_on_rounded_weights_of_a_model_or_a_folder(
    folder, tmp_path, array, kind, is_stored
):
    whole = load(folder, device="cpu")
    if is_stored:
        folder = convert(folder, tmp_path / "low", quantize=kind).destination
    rounded = load(folder, device="cpu", quantize=kind, for_training=True)
    (answer,) = whole.generate(array, "caption en", 6)
    (before,) = rounded.score(array, "caption en", [answer.text])
    off = abs(whole.score(array, "caption en", [answer.text])[0].log_prob - before.log_prob)
    assert 0 < off < 1.0
    add_fresh_adapter(rounded.model, LoraSettings(rank=2))
    inputs = rounded.encode(array, "caption en")
    with torch.enable_grad():
        rounded.model(inputs.token_ids, inputs.pixel_values, inputs.layout).logsumexp(-1).sum().backward()
    learning = {name for name, weight in rounded.model.named_parameters() if weight.grad is not None}
    assert learning == {name for name, _ in rounded.model.named_parameters() if ".lora_" in name}
    for name, weight in rounded.model.named_parameters():
        if name.endswith(".lora_b"):
            weight.data.sub_(weight.grad.sign(), alpha=0.1)
    (after,) = rounded.score(array, "caption en", [answer.text])
    assert abs(after.log_prob - before.log_prob) > 0.01
    save_adapter(tmp_path / "a", take_out(rounded.model), rounded.config)
    assert rounded.score(array, "caption en", [answer.text])[0] == before
    add_adapter(rounded.model, read_adapter(tmp_path / "a", rounded.config))
    assert rounded.score(array, "caption en", [answer.text])[0] == after
    with pytest.raises(InputError, match="has an adapter in training"):
        save_model(tmp_path / "m", rounded.model, rounded.config)


def test_a_folder_of_few_bits_is_not_rounded_again(folder, tmp_path):
    convert(folder, tmp_path / "low", quantize="int8")
    assert load(tmp_path / "low", quantize="int8")
    with pytest.raises(InputError, match="holds int8 weights already, quantize is 'int4'"):
        load(tmp_path / "low", quantize="int4")
    with pytest.raises(InputError, match="cannot be changed or stored again") as raised:
        load(tmp_path / "low", for_training=True)
    assert "only an adapter can be trained on these, with quantize='int8'" in raised.value.hint


# Several processes.


def answers_of(model, pictures):
    prompts = ["caption en", "answer en what is this ?"]
    return [model.generate(pictures, prompts, decoding=each) for each in DECODINGS]


def work(folder, pictures):
    """Answers and scores of a shared model; then what is refused once there are processes."""
    model = load(folder, device="cpu", tensor_parallel=True)
    scores = model.score(pictures[0], "caption en", ["cat", "dog cat"])
    with pytest.raises(InputError, match="device 'mps' cannot be shared") as raised:
        load(folder, device="mps", tensor_parallel=True)
    assert "auto, cuda or cpu" in raised.value.hint
    return {
        "answers": answers_of(model, pictures),
        "scores": scores,
        "heads": model.model.language_model.config.num_kv_heads,
        "half": load(folder, device="cpu", dtype="bfloat16", tensor_parallel=True).generate(
            pictures[0], "", 3
        ),
    }


@pytest.fixture(scope="module")
def shared(folder, pictures, tmp_path_factory):
    pair = [str(picture) for picture in pictures[:2]]
    return in_processes(work, 2, tmp_path_factory.mktemp("two") / "processes", folder, pair)


def test_a_shared_model_writes_and_scores_as_one_that_is_whole(shared, folder, pictures):
    model = load(folder, device="cpu")
    for result in shared:
        for mine, whole in zip(result["answers"], answers_of(model, pictures[:2]), strict=True):
            assert [each.token_ids for each in mine] == [each.token_ids for each in whole]
        for mine, whole in zip(
            result["scores"], model.score(pictures[0], "caption en", ["cat", "dog cat"]), strict=True
        ):
            assert mine.log_probs == pytest.approx(whole.log_probs, abs=1e-5)


def test_the_processes_agree_to_the_last_bit(shared):
    assert shared[0] == shared[1]
    assert shared[0]["heads"] == 1


def test_a_process_alone_is_told_how_to_start_several(folder):
    with pytest.raises(InputError, match="tensor_parallel needs several processes") as raised:
        load(folder, tensor_parallel=True)
    assert "torchrun --nproc-per-node 2" in raised.value.hint


def test_another_configuration_stands_in_for_the_checkpoint_s_own(folder, array):
    own = load(folder)
    text = dataclasses.replace(own.config.text, final_cap=None, attention_cap=1e-3)
    config = dataclasses.replace(own.config, text=text)
    other = load(folder, config=config)
    assert other.config == other.model.config == config
    assert other.generate(array, "caption en", 6) != own.generate(array, "caption en", 6)
