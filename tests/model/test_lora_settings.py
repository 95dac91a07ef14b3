import pytest

from paligemma2.errors import ConfigError
from paligemma2.model.config import preset
from paligemma2.model.lora_settings import LoraSettings, fits_end
from paligemma2.model.paligemma2 import linear_shapes

LAYERS = tuple(linear_shapes(preset("paligemma2-3b-pt-224")))


def test_without_targets_every_linear_layer_of_the_decoder_is_changed_and_none_else() -> None:
    changed = LoraSettings().layers_among(LAYERS)
    assert changed == tuple(layer for layer in LAYERS if layer.startswith("language_model."))
    assert len(changed) == 26 * 7


def test_a_name_that_the_image_encoder_has_too_means_the_decoder() -> None:
    changed = LoraSettings(targets=("q_proj", "v_proj")).layers_among(LAYERS)
    assert len(changed) == 26 * 2
    assert all(layer.startswith("language_model.") for layer in changed)


@pytest.mark.parametrize(
    ("parts", "targets", "count"),
    [
        (("vision_tower",), (), 27 * 6),
        (("projector",), (), 1),
        (("image",), (), 27 * 6 + 1),
        (("image", "decoder"), ("q_proj",), 27 + 26),
        (("decoder",), (r"layers\.(0|1)\..*",), 2 * 7),
        (("decoder",), ("self_attn.*", "layers.3.mlp.up_proj"), 26 * 4 + 1),
        (("decoder",), ("language_model.layers.25.self_attn.o_proj",), 1),
    ],
)
def test_parts_and_targets_choose_layers(
    parts: tuple[str, ...], targets: tuple[str, ...], count: int
) -> None:
    assert len(LoraSettings(parts=parts, targets=targets).layers_among(LAYERS)) == count


@pytest.mark.parametrize(
    ("settings", "said", "hint"),
    [
        ({"targets": ("q_proj", "qproj")}, "the target 'qproj' fits no", "nearest are q_proj"),
        ({"targets": ("self_attention.q_proj",)}, "fits no linear layer", "nearest are self_attn.q_proj"),
        ({"targets": ("xyz",)}, "the target 'xyz'", "layers end in down_proj, gate_proj, k_proj"),
        (
            {"targets": ("fc1",)},
            "the target 'fc1'",
            "it fits vision_tower.encoder.layers.0.mlp.fc1; name its",
        ),
        ({"rank_pattern": {"fc1": 3}}, "the pattern 'fc1'", "it fits vision_tower"),
        ({"targets": ("q_proj",), "alpha_pattern": {"v_proj": 3.0}}, "the pattern 'v_proj'", "it fits lang"),
    ],
)
def test_a_pattern_that_fits_nothing_is_an_error_that_names_the_nearest(
    settings: dict[str, object], said: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        LoraSettings(**settings).layers_among(LAYERS)  # type: ignore[arg-type]
    assert hint in raised.value.hint


def test_the_first_pattern_that_fits_counts() -> None:
    settings = LoraSettings(
        rank=4,
        alpha=6.0,
        rank_pattern={r"layers\.1\..*": 7, "q_proj": 2},
        alpha_pattern={"mlp.up_proj": 3.0},
    )
    place = "language_model.layers"
    ranks = [settings.rank_of(f"{place}.{name}") for name in ("1.self_attn.q_proj", "2.self_attn.q_proj")]
    assert ranks == [7, 2]
    assert settings.rank_of(f"{place}.0.mlp.up_proj") == 4
    assert settings.alpha_of(f"{place}.0.mlp.up_proj") == 3.0
    assert settings.alpha_of(f"{place}.0.mlp.gate_proj") == 6.0


def test_a_pattern_fits_from_the_beginning_of_a_level() -> None:
    assert fits_end("q_proj", "a.q_proj")
    assert fits_end("q_proj", "q_proj")
    assert not fits_end("proj", "a.q_proj")
    assert not fits_end("q_proj", "q_proj.base")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rank": 0}, "a rank of the adapter is 0"),
        ({"rank": 2.5}, r"a rank of the adapter is 2\.5"),
        ({"rank_pattern": {"q_proj": True}}, "a rank of the adapter is True"),
        ({"alpha": 0.0}, "an alpha of the adapter is 0"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "an alpha of the adapter is nan"),
        ({"dropout": 1.0}, "the dropout is 1"),
        ({"dropout": -0.1}, "the dropout is -0.1"),
        ({"parts": ()}, "in no part"),
        ({"parts": ("tower",)}, "there is no part 'tower'"),
        ({"targets": ("(",)}, r"'\(' is not a regular expression"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        LoraSettings(**settings)  # type: ignore[arg-type]
