from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paligemma2.errors import ConfigError, InputError
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.jobs.evaluate_model import EvaluatedModel, column_of, model_facts
from paligemma2.model.config import PRESETS, preset
from paligemma2.processing.image import BIG_VISION, BIG_VISION_NO_ANTIALIAS
from tests.small_adapter import save_random_adapter
from tests.small_model import save_small_model, small_config
from tests.small_task import small_task


def config(**changes):
    given = {"models": ("tiny",), "tasks": ("vqav2",), "data": Path("data"), "output": Path("runs")}
    return EvaluateConfig(**(given | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small") / "model")


def test_the_card_has_columns_for_its_sizes_alone():
    columns = {name: column_of(preset(name)) for name in PRESETS if "-pt-" in name}
    assert columns["paligemma2-3b-pt-224"] == "224-3B"
    assert columns["paligemma2-28b-pt-448"] == "448-28B"
    assert columns["paligemma2-10b-pt-896"] == ""
    assert column_of(small_config()) == ""


def test_the_fingerprint_is_that_of_the_weights_and_of_what_is_done_to_them(folder, tmp_path):
    other = save_small_model(tmp_path / "other", seed=1)
    adapters = [save_random_adapter(tmp_path / f"a{seed}", small_config(), seed=seed) for seed in (0, 1)]
    prints = [
        model_facts(str(folder), config()).fingerprint,
        model_facts(str(other), config()).fingerprint,
        model_facts(str(folder), config(dtype="bfloat16")).fingerprint,
        model_facts(str(folder), config(quantize="int8")).fingerprint,
        *(model_facts(str(folder), config(adapter=adapter)).fingerprint for adapter in adapters),
    ]
    assert len(set(prints)) == len(prints)
    assert model_facts(str(folder), config(batch_size=3)).fingerprint == prints[0]


def test_caps_window_and_resize_are_those_of_the_protocol(folder):
    facts = model_facts(str(folder), config())
    model = EvaluatedModel(facts, config(), "cpu")
    predictor = model.under_protocol(small_task())
    text = predictor.config.text
    assert (text.final_cap, text.attention_cap, text.sliding_window) == (None, 50.0, None)
    assert predictor.processor.resize == BIG_VISION
    again = model.under_protocol(small_task(antialias=False))
    assert again is predictor  # not loaded again for another resize
    assert again.processor.resize == BIG_VISION_NO_ANTIALIAS
    assert model.under_protocol(small_task(attention_cap=None)).config.text.attention_cap is None
    own = EvaluatedModel(facts, config(protocol="hf"), "cpu").under_protocol(small_task())
    assert own.config == facts.config
    assert own.processor.resize.convention == "hugging_face"


def test_random_weights_are_others_and_the_same_each_time(folder):
    spoiled = config(control="random weights")
    facts = model_facts(str(folder), spoiled)
    one, other = (EvaluatedModel(facts, spoiled, "cpu").under_protocol(small_task()) for _ in range(2))
    own = EvaluatedModel(facts, config(), "cpu").under_protocol(small_task())
    weight = "language_model.layers.0.mlp.down_proj.weight"
    first = one.model.get_parameter(weight)
    assert torch.equal(first, other.model.get_parameter(weight))
    array = torch.randint(0, 256, (28, 28, 3), dtype=torch.uint8).numpy()
    assert one.generate(array, "caption en", 4) != own.generate(array, "caption en", 4)
    with pytest.raises(ConfigError, match="random weights"):
        EvaluatedModel(facts, replace(spoiled, quantize="int8"), "cpu").under_protocol(small_task())


def test_an_adapter_that_is_not_there_is_said(folder, tmp_path):
    with pytest.raises(InputError, match="no adapter at"):
        model_facts(str(folder), config(adapter=tmp_path))
