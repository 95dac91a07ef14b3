import dataclasses
import math

import pytest
import torch

from paligemma2.errors import ConfigError
from paligemma2.model.config import (
    PRESETS,
    ModelConfig,
    TextConfig,
    VisionConfig,
    preset,
    variant_name,
)
from paligemma2.model.paligemma2 import PaliGemma2Model

# The released tables have 257216 rows; big_vision's have 257152, without the filler behind <image>.
BIG_VISION_ROWS = 257152
VISION = {224: 412_442_352, 448: 413_327_088, 896: 416_866_032}
PROJECTOR = {"3b": 2_656_512, "10b": 4_132_352, "28b": 5_313_024}
DECODER_BODY = {"3b": 2_024_517_888, "10b": 8_324_201_984, "28b": 26_047_480_320}
EMBEDDING = {"3b": 592_478_208, "10b": 921_632_768, "28b": 1_184_956_416}
TOTAL = {
    ("3b", 224): 3_032_094_960,
    ("3b", 448): 3_032_979_696,
    ("3b", 896): 3_036_518_640,
    ("10b", 224): 9_662_409_456,
    ("10b", 448): 9_663_294_192,
    ("10b", 896): 9_666_833_136,
    ("28b", 224): 27_650_192_112,
    ("28b", 448): 27_651_076_848,
    ("28b", 896): 27_654_615_792,
}
TOTAL_WITH_FILLER = {"3b": 3_032_242_416, "10b": 9_662_638_832, "28b": 27_650_487_024}
DECODER_LAYER = {"3b": 77_865_984, "10b": 198_195_200, "28b": 566_249_472}
VISION_LAYER = 15_239_504


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(config: ModelConfig) -> PaliGemma2Model:
    with torch.device("meta"):
        return PaliGemma2Model(config)


def small_text(**fields: object) -> TextConfig:
    return dataclasses.replace(TextConfig(vocab_size=300, hidden_size=8, num_layers=2), **fields)


@pytest.mark.parametrize(("size", "resolution"), TOTAL)
def test_parameter_counts_are_those_of_the_table(size: str, resolution: int) -> None:
    config = preset(f"paligemma2-{size}-pt-{resolution}")
    model = on_meta(
        dataclasses.replace(config, text=dataclasses.replace(config.text, vocab_size=BIG_VISION_ROWS))
    )
    embedding = count(model.language_model.embed_tokens)
    assert count(model.vision_tower) == VISION[resolution]
    assert count(model.multi_modal_projector) == PROJECTOR[size]
    assert count(model.language_model) - embedding == DECODER_BODY[size]
    assert embedding == EMBEDDING[size]
    assert count(model) == TOTAL[size, resolution]
    assert {count(layer) for layer in model.language_model.layers} == {DECODER_LAYER[size]}
    assert {count(layer) for layer in model.vision_tower.encoder.layers} == {VISION_LAYER}
    assert next(model.parameters()).device.type == "meta"


@pytest.mark.parametrize("size", TOTAL_WITH_FILLER)
def test_released_tables_have_64_filler_rows(size: str) -> None:
    assert count(on_meta(preset(f"paligemma2-{size}-pt-224"))) == TOTAL_WITH_FILLER[size]


def test_the_model_holds_no_buffers() -> None:
    assert not list(on_meta(preset("paligemma2-3b-pt-224")).buffers())


def test_presets_are_the_names_of_the_card() -> None:
    names = {f"paligemma2-{size}-pt-{resolution}" for size, resolution in TOTAL}
    names |= {f"paligemma2-{size}-mix-{resolution}" for size, resolution in TOTAL if resolution < 896}
    assert set(PRESETS) == names | {"tiny"}


@pytest.mark.parametrize(("resolution", "tokens"), [(224, 256), (448, 1024), (896, 4096)])
def test_the_number_of_image_tokens_follows_from_the_resolution(resolution: int, tokens: int) -> None:
    assert preset(f"paligemma2-10b-pt-{resolution}").num_image_tokens == tokens


@pytest.mark.parametrize(("size", "scalar"), [("3b", 256.0), ("10b", 256.0), ("28b", 144.0)])
def test_queries_are_scaled_by_the_published_scalar(size: str, scalar: float) -> None:
    assert preset(f"paligemma2-{size}-pt-224").text.query_pre_attn_scalar == scalar


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny"])
def test_presets_share_the_constants_of_the_reference(name: str) -> None:
    config = preset(name)
    assert (config.text.attention_cap, config.text.final_cap) == (50.0, 30.0)
    assert (config.text.vocab_size, config.image_token_id, config.num_text_rows) == (257216, 257152, 257152)
    assert config.text.scale == math.sqrt(config.text.hidden_size)
    assert config.text.window_of_layer(0) == 4096
    assert config.text.window_of_layer(1) is None


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"paligemma2-10b-pt-44'.*did you mean 'paligemma2-10b-pt-448'"):
        preset("paligemma2-10b-pt-44")


def test_a_name_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known: tiny, paligemma2-3b-pt-224, "):
        preset("zzzz")


def test_variants_are_recognised_by_their_sizes() -> None:
    assert variant_name(preset("paligemma2-28b-mix-448")) == "28b-448"
    assert variant_name(preset("tiny")) == "tiny-112"
    other = dataclasses.replace(preset("paligemma2-3b-pt-224"), text=small_text())
    assert variant_name(other).startswith("custom-224 ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 225}, "225 is not a multiple of patch_size 14"),
        ({"image_size": 0}, "image_size is 0"),
        ({"hidden_size": 1150}, "1150 does not divide into 16 heads"),
        ({"num_layers": -1}, "num_layers is -1"),
        ({"num_heads": 0}, "num_heads is 0"),
    ],
)
def test_an_impossible_image_encoder_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VisionConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_kv_heads": 3}, "8 query heads do not divide into 3"),
        ({"head_dim": 15}, "head_dim 15 is odd"),
        ({"sliding_layers": (True,)}, "names 1 layers, the decoder has 2"),
        ({"attention_cap": 0.0}, "attention_cap is 0.0"),
        ({"final_cap": -30.0}, "final_cap is -30.0"),
        ({"sliding_window": 0}, "sliding_window is 0"),
        ({"embedding_scale": math.nan}, "embedding_scale is nan"),
        ({"query_pre_attn_scalar": 0.0}, "query_pre_attn_scalar is 0.0"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"rope_theta": -1.0}, "rope_theta is -1.0"),
    ],
)
def test_an_impossible_decoder_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_text(**fields)


@pytest.mark.parametrize("field", ["pad_token_id", "eos_token_id", "bos_token_id"])
@pytest.mark.parametrize("value", [-1, 300])
def test_ids_outside_the_vocabulary_are_refused(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{field} {value} is outside 0..299"):
        ModelConfig(vision=VisionConfig(), text=small_text(), **{field: value})


def test_only_even_layers_slide_unless_told_otherwise() -> None:
    text = small_text(num_layers=5, sliding_layers=(), sliding_window=7)
    assert [text.window_of_layer(layer) for layer in range(5)] == [7, None, 7, None, 7]
    chosen = small_text(sliding_layers=(False, True), sliding_window=7)
    assert [chosen.window_of_layer(layer) for layer in range(2)] == [None, 7]
