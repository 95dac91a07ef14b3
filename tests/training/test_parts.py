import pytest
import torch

from paligemma2.errors import ConfigError
from paligemma2.model.config import PRESETS
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.parts import PARTS, belongs_to, check_parts, freeze


@pytest.fixture
def model() -> PaliGemma2Model:
    with torch.device("meta"):
        return PaliGemma2Model(PRESETS["tiny"])


def frozen(model: PaliGemma2Model) -> set[str]:
    return {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("image", {"vision_tower", "multi_modal_projector"}),
        ("vision_tower", {"vision_tower"}),
        ("projector", {"multi_modal_projector"}),
        ("decoder", {"language_model"}),
    ],
)
def test_a_part_is_frozen_whole_and_nothing_else(
    model: PaliGemma2Model, part: str, expected: set[str]
) -> None:
    freeze(model, [part])
    assert frozen(model) == expected
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != (name.split(".")[0] in expected), name


def test_the_parts_hold_every_parameter_of_the_model(model: PaliGemma2Model) -> None:
    names = [name for name, _ in model.named_parameters()]
    for name in names:
        assert sum(belongs_to(name, part) for part in ("vision_tower", "projector", "decoder")) == 1
    check_parts(PARTS, names)


def test_a_pattern_must_fit_the_whole_name(model: PaliGemma2Model) -> None:
    freeze(model, [r"language_model\.layers\.[01]\..*"])
    for name, parameter in model.named_parameters():
        is_chosen = name.startswith(("language_model.layers.0.", "language_model.layers.1."))
        assert parameter.requires_grad != is_chosen, name
    with pytest.raises(ConfigError, match="no parameter of the model is in 'language_model'"):
        freeze(model, ["language_model"])


@pytest.mark.parametrize(("part", "near"), [("vision_towers", "vision_tower"), ("imag", "image")])
def test_a_part_that_holds_nothing_is_an_error_that_names_the_nearest(
    model: PaliGemma2Model, part: str, near: str
) -> None:
    with pytest.raises(ConfigError, match=f"no parameter of the model is in '{part}'") as raised:
        freeze(model, [part])
    assert f"did you mean '{near}'" in raised.value.hint


def test_a_broken_pattern_is_an_error_of_ours(model: PaliGemma2Model) -> None:
    with pytest.raises(ConfigError, match=r"'\(' is not a regular expression"):
        freeze(model, ["("])
