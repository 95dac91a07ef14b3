import dataclasses

import pytest

from paligemma2.errors import InputError
from paligemma2.model.config import PRESETS, ModelConfig, preset
from paligemma2.training.recipes import NAMES, TransferRecipe, recipe_named, transfer_recipe

ROW = TransferRecipe(
    text_length=48,
    epochs=(100, 10, 1),
    batch_size=(256, 128, 64),
    learning_rate=(3e-5, 1e-5, 3e-6),
    dropout=(0.1, 0, 0),
    label_smoothing=0.3,
    is_image_frozen=(False, True, True),
    paligemma2=(1e-5, 3e-6, None),
)


def model(size: str = "3b", pixels: int = 224) -> ModelConfig:
    return preset(f"paligemma2-{size}-pt-{pixels}")


@pytest.mark.parametrize(
    ("pixels", "epochs", "expected"),
    [
        (224, 100, {"batch_size": 256, "dropout": 0.1, "label_smoothing": 0.3, "freeze": ()}),
        (448, 10, {"batch_size": 128, "dropout": 0, "label_smoothing": 0.3, "freeze": ("image",)}),
        (896, 1, {"batch_size": 64, "dropout": 0, "label_smoothing": 0.3, "freeze": ("image",)}),
    ],
)
def test_settings_are_those_of_the_resolution(pixels: int, epochs: int, expected: dict[str, object]) -> None:
    named = transfer_recipe("a name", ROW, model(pixels=pixels))
    assert (named.name, named.epochs, named.text_length) == ("a name", epochs, 48)
    assert {key: getattr(named.training, key) for key in expected} == expected


def test_transfers_decay_as_big_vision_and_go_without_the_final_cap() -> None:
    named = transfer_recipe("a name", ROW, model())
    assert not named.has_final_cap
    assert (named.training.decay_rule, named.training.grad_clip) == ("big_vision", 1.0)
    assert (named.training.schedule, named.training.warmup_fraction) == ("cosine", 0.05)


def test_the_rate_is_that_of_the_size_or_else_of_the_first_paper() -> None:
    assert transfer_recipe("a name", ROW, model("10b")).training.learning_rate == 3e-6
    assert transfer_recipe("a name", ROW, model("28b", 448)).training.learning_rate == 1e-5
    other = dataclasses.replace(model(), text=dataclasses.replace(model().text, hidden_size=2048))
    assert transfer_recipe("a name", ROW, other).training.learning_rate == 3e-5


def test_without_a_name_the_size_of_the_model_decides() -> None:
    assert recipe_named(None, PRESETS["tiny"]).name == "small"
    assert recipe_named(None, model("10b")).name == "own"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="there is no recipe 'large'") as raised:
        recipe_named("large", model())
    assert all(name in raised.value.hint for name in NAMES)
