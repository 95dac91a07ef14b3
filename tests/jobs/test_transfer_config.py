from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paligemma2.configuration import with_settings
from paligemma2.errors import ConfigError, InputError
from paligemma2.jobs import transfer_config
from paligemma2.jobs.transfer_config import TransferConfig, base_dtype, configure
from paligemma2.model.lora_settings import LoraSettings
from tests.small_model import save_small_model

CONFIG = TransferConfig(model="tiny", data=Path("data"), output=Path("folder") / "new")


def test_a_small_model_gets_the_small_recipe_and_its_settings_are_changed() -> None:
    settings = ["training.steps=5", "lora.rank=3", "evaluation.every=2", "rules.faults=skip"]
    config = configure("tiny", Path("data"), Path("new"), settings=settings)
    assert (config.recipe, config.training.batch_size, config.training.steps) == ("small", 16, 5)
    assert config.lora == LoraSettings(rank=3)
    assert config.evaluation.every == 2
    assert config.rules.faults == "skip"


def test_a_named_recipe_brings_all_that_belongs_to_it(tmp_path: Path) -> None:
    config = configure(str(save_small_model(tmp_path)), Path("data"), Path("new"), recipe="scienceqa")
    assert (config.recipe, config.epochs, config.rules.text_length) == ("scienceqa", 20, 512)
    assert config.training.freeze == ("image",)
    assert not config.has_final_cap
    assert config.num_steps(8315) == round(20 * 8315 / 128)


def test_an_unknown_recipe_model_or_setting_is_told() -> None:
    with pytest.raises(InputError, match="there is no recipe 'nothing'"):
        configure("tiny", Path("data"), Path("new"), recipe="nothing")
    with pytest.raises(InputError, match="nowhere"):
        configure("nowhere", Path("data"), Path("new"))
    with pytest.raises(ConfigError, match="no setting 'learning_rate'") as raised:
        configure("tiny", Path("data"), Path("new"), settings=["learning_rate=1"])
    assert "training.learning_rate" in raised.value.hint


@pytest.mark.parametrize(("epochs", "expected"), [(None, 300), (1.0, 6), (0.01, 1), (2.5, 16)])
def test_epochs_give_the_number_of_updates(epochs: float | None, expected: int) -> None:
    assert replace(CONFIG, epochs=epochs).num_steps(100) == expected


def test_weights_of_few_bits_are_not_trained_themselves() -> None:
    with pytest.raises(ConfigError, match="weights of few bits cannot be trained") as raised:
        replace(CONFIG, quantize="int4")
    assert "lora.rank" in raised.value.hint
    assert replace(CONFIG, quantize="int4", lora=LoraSettings()).quantize == "int4"


def test_paths_may_be_text() -> None:
    assert configure("tiny", "data", "new") == configure("tiny", Path("data"), Path("new"))


def test_an_adapter_may_be_asked_for_after_the_bits_below_it() -> None:
    config = configure("tiny", Path("data"), Path("new"), settings=["quantize=int4", "lora.rank=2"])
    assert (config.quantize, config.lora) == ("int4", LoraSettings(rank=2))


def test_epochs_must_be_above_zero() -> None:
    with pytest.raises(ConfigError, match="epochs is 0"):
        replace(CONFIG, epochs=0)


@pytest.mark.parametrize("setting", ["num_workers=-1", "image_cache_gb=-0.5"])
def test_numbers_of_workers_and_of_memory_are_not_below_zero(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.replace("=", " is ")):
        configure("tiny", Path("data"), Path("new"), settings=[setting])


def test_the_folder_of_the_run_stands_beside_the_output() -> None:
    assert CONFIG.run_folder == Path("folder") / "new.run"


def test_an_adapter_keeps_the_final_cap_of_the_model_it_will_be_used_with() -> None:
    settings = ["lora.rank=2"]
    assert configure("tiny", Path("data"), Path("new"), recipe="own", settings=settings).has_final_cap
    assert not configure("tiny", Path("data"), Path("new"), recipe="own").has_final_cap
    with pytest.raises(ConfigError, match="without the final cap, with which it will be used"):
        configure("tiny", Path("data"), Path("new"), settings=[*settings, "has_final_cap=false"])


@pytest.mark.parametrize(
    ("settings", "is_fast", "expected"),
    [
        ([], True, "float32"),
        (["lora.rank=2"], True, "auto"),
        (["lora.rank=2"], False, "float32"),
        (["lora.rank=2", "training.precision=float32"], True, "float32"),
    ],
    ids=str,
)
def test_weights_are_in_16_bits_only_below_an_adapter(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], is_fast: bool, expected: str
) -> None:
    monkeypatch.setattr(transfer_config, "bfloat16_is_fast", lambda device: is_fast)
    assert base_dtype(with_settings(CONFIG, settings), torch.device("cpu")) == expected
