import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from paligemma2.checkpoint.config_json import read_config
from paligemma2.checkpoint.layouts import EMBEDDING, KeyLayout
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.mask_codec_files import (
    MaskCodecRecord,
    record_mask_codec,
    recorded_mask_codec,
)
from paligemma2.checkpoint.save import TOKENIZER_FILES, save_model
from paligemma2.errors import InputError, WorkError
from paligemma2.model.lora import attach
from paligemma2.model.lora_training import add_adapter, take_out
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.weight_forms import refill, restored_form
from tests.checkpoint.small_checkpoints import (
    from_transformers,
    inputs,
    our_logits,
    random_hugging_face_model,
    random_model,
    small_config,
    their_logits,
)
from tests.small_adapter import EVERYTHING, random_adapter

LOGIT_TOLERANCE = 2e-5


@pytest.mark.parametrize("layout", ["legacy", "nested", "new"])
def test_transformers_computes_the_same_from_a_folder_we_save(tmp_path: Path, layout: KeyLayout) -> None:
    config = small_config()
    model = random_model(config)
    save_model(tmp_path / "m", model, config, key_layout=layout, max_shard_size=300_000)
    theirs = their_logits(from_transformers(tmp_path / "m"), config)
    torch.testing.assert_close(theirs, our_logits(model), atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "text",
    [
        {"attention_cap": None, "final_cap": None},
        {"sliding_window": None},
        {"sliding_layers": (False, True, True, False)},
        {"rope_theta": 500.0},
    ],
)
def test_transformers_reads_every_setting_that_it_knows(tmp_path: Path, text: dict[str, object]) -> None:
    config = small_config(**text)
    model = random_model(config)
    save_model(tmp_path / "m", model, config)
    theirs = their_logits(from_transformers(tmp_path / "m"), config)
    torch.testing.assert_close(theirs, our_logits(model), atol=LOGIT_TOLERANCE, rtol=0)


def test_transformers_loads_a_folder_with_our_extra_fields(tmp_path: Path) -> None:
    config = small_config(embedding_scale=3.0, round_embedding_scale=False)
    save_model(tmp_path / "m", random_model(config), config)
    from_transformers(tmp_path / "m")
    assert read_config(tmp_path / "m") == config


def test_a_tied_head_may_be_stored_too(folder: Path) -> None:
    before = our_logits(load_model(folder).model)
    tensors = load_file(folder / "model.safetensors")
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(folder)
    assert torch.equal(our_logits(loaded.model), before)
    theirs = their_logits(from_transformers(folder), loaded.config)
    torch.testing.assert_close(theirs, before, atol=LOGIT_TOLERANCE, rtol=0)


def test_the_released_names_are_the_default(folder: Path) -> None:
    names = set(load_file(folder / "model.safetensors"))
    assert "vision_tower.vision_model.post_layernorm.weight" in names
    assert "language_model.model.norm.weight" in names
    assert not any("lm_head" in name for name in names)


def test_the_image_settings_are_those_of_the_released_files(folder: Path) -> None:
    from transformers import SiglipImageProcessorPil

    settings = json.loads((folder / "preprocessor_config.json").read_text())
    assert settings["do_convert_rgb"] is True  # the released null would refuse grey pictures
    assert settings["resample"] == 3
    assert settings["rescale_factor"] == 1 / 255
    assert settings["image_mean"] == settings["image_std"] == [0.5, 0.5, 0.5]
    assert settings["size"] == {"height": 28, "width": 28}
    assert settings["image_seq_length"] == 4
    processor = SiglipImageProcessorPil.from_pretrained(folder)
    assert (processor.size["height"], int(processor.resample)) == (28, 3)


def test_the_generation_settings_stop_at_the_end_token(folder: Path) -> None:
    settings = json.loads((folder / "generation_config.json").read_text())
    assert (settings["eos_token_id"], settings["pad_token_id"]) == (1, 0)


def test_tokenizer_files_are_copied_and_image_settings_follow_the_model(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in TOKENIZER_FILES:
        (source / name).write_text(name)
    old = {"resample": 2, "size": {"height": 14, "width": 14}, "do_convert_rgb": True}
    (source / "preprocessor_config.json").write_text(json.dumps(old))
    config = small_config()
    save_model(tmp_path / "m", random_model(config), config, files_from=source)
    for name in TOKENIZER_FILES:
        assert (tmp_path / "m" / name).read_text() == name
    settings = json.loads((tmp_path / "m" / "preprocessor_config.json").read_text())
    assert settings["resample"] == 2
    assert settings["do_convert_rgb"] is True
    assert settings["size"] == {"height": 28, "width": 28}


def test_which_mask_codec_a_model_has_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    record = MaskCodecRecord(name="mine", fingerprint="f00d")
    record_mask_codec(tmp_path / "from", record)
    save_model(tmp_path / "m", random_model(small_config()), small_config(), files_from=tmp_path / "from")
    assert recorded_mask_codec(tmp_path / "m") == record


def test_adapters_in_a_model_are_left_out(tmp_path: Path) -> None:
    config = small_config()
    model = random_model(config)
    expected = our_logits(model)
    attach(model, {"it": random_adapter(config, EVERYTHING)})
    save_model(tmp_path / "m", model, config)
    assert torch.equal(our_logits(load_model(tmp_path / "m").model), expected)


def test_an_adapter_in_training_is_not_left_out_in_silence(tmp_path: Path) -> None:
    config = small_config()
    model = random_model(config)
    add_adapter(model, random_adapter(config))
    with pytest.raises(InputError, match="has an adapter in training") as raised:
        save_model(tmp_path / "m", model, config)
    assert "save_adapter(folder, take_out(model), config)" in raised.value.hint
    take_out(model)
    save_model(tmp_path / "m", model, config)


def test_weights_of_few_bits_are_not_saved(tmp_path: Path) -> None:
    model = random_model(small_config())
    refill(model, restored_form("int4", torch.float32), EMBEDDING)
    with pytest.raises(InputError, match="of few bits cannot be saved"):
        save_model(tmp_path / "m", model, small_config())
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("layout", ["legacy", "new"])
def test_transformers_computes_the_same_after_a_step_of_training(tmp_path: Path, layout: KeyLayout) -> None:
    theirs = random_hugging_face_model(3)
    theirs.save_pretrained(tmp_path / "before")
    model = load_model(tmp_path / "before").model
    before, optimizer = our_logits(model), torch.optim.AdamW(model.parameters(), lr=1e-3)
    token_ids, pixel_values, is_prefix = inputs(model.config)
    layout_of = PrefixLayout.from_flags(torch.ones_like(is_prefix), is_prefix)
    logits = model(token_ids, pixel_values, layout_of)[:, :-1]
    is_target = ~is_prefix[:, 1:]
    F.cross_entropy(logits[is_target], token_ids[:, 1:][is_target]).backward()
    optimizer.step()
    after = our_logits(model)
    assert (after - before).abs().max() > 0.05
    save_model(tmp_path / "after", model, model.config, key_layout=layout)
    found = their_logits(from_transformers(tmp_path / "after"), model.config)
    torch.testing.assert_close(found, after, atol=LOGIT_TOLERANCE, rtol=0)


def test_the_dtype_is_stored_and_named(tmp_path: Path) -> None:
    config = small_config()
    save_model(tmp_path / "m", random_model(config), config, dtype=torch.bfloat16)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert load_model(tmp_path / "m").model.dtype is torch.bfloat16
    assert next(from_transformers(tmp_path / "m").parameters()).dtype is torch.bfloat16


def test_an_existing_folder_is_kept_unless_asked(folder: Path) -> None:
    config = small_config()
    with pytest.raises(InputError, match="already exists"):
        save_model(folder, random_model(config, seed=1), config)
    save_model(folder, random_model(config, seed=1), config, overwrite=True)
    expected = random_model(config, seed=1).language_model.norm.weight
    assert torch.equal(load_model(folder).model.language_model.norm.weight, expected)


def test_records_are_there_as_soon_as_the_folder_is(tmp_path: Path) -> None:
    config = small_config()
    record = {"steps": 3, "data": tmp_path}
    save_model(tmp_path / "m", random_model(config), config, records={"transfer.json": record})
    written = json.loads((tmp_path / "m" / "transfer.json").read_text())
    assert written == {"steps": 3, "data": str(tmp_path)}


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The system refuses files over 200 kB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files_only")
def test_a_save_that_runs_out_of_room_damages_nothing(tmp_path: Path) -> None:
    config = small_config()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("old")
    with pytest.raises(WorkError, match="the disk is full"):
        save_model(tmp_path / "m", random_model(config), config, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "config.json").read_text() == "old"


def test_weights_that_are_held_in_parts_are_brought_together_one_after_another(tmp_path: Path) -> None:
    config = small_config()
    model, seen = random_model(config), []

    def gather(parameter: torch.Tensor) -> torch.Tensor:
        seen.append(parameter)
        return parameter.detach() * 2

    save_model(tmp_path / "m", model, config, gather=gather)
    parameters = list(model.parameters())
    assert [id(parameter) for parameter in seen] == [id(parameter) for parameter in parameters]
    for loaded, parameter in zip(load_model(tmp_path / "m").model.parameters(), parameters, strict=True):
        assert torch.equal(loaded, parameter * 2)
