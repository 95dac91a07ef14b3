import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from paligemma2.checkpoint.adapter import CONFIG_FILE, WEIGHTS_FILE, read_adapter, save_adapter
from paligemma2.checkpoint.layouts import KeyLayout, normalise, stored_name
from paligemma2.checkpoint.load import load_model
from paligemma2.errors import CheckpointError, ConfigError, InputError, PaliGemmaError
from paligemma2.model.config import ModelConfig
from paligemma2.model.lora import Adapter, LowRank, adapter_names, attach, using_adapters
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.lora_training import add_adapter, add_fresh_adapter, take_out
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from tests.checkpoint.small_checkpoints import (
    inputs,
    our_logits,
    random_hugging_face_model,
    small_config,
    their_logits,
)
from tests.small_adapter import DECODER, EVERYTHING, random_adapter

# `peft` asks `transformers` for what that has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
LOGIT_TOLERANCE = 2e-5
NAMES = ["q_proj", "v_proj", "down_proj"]
SETTINGS = {
    "names, which the image encoder has too": {"target_modules": NAMES},
    "the decoder by an expression": {"target_modules": r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"},
    "all": {"target_modules": "all-linear"},
    "not the image encoder": {"target_modules": NAMES, "exclude_modules": r".*vision_tower.*"},
    "not the last": {"target_modules": NAMES, "exclude_modules": ["layers.1.self_attn.q_proj"]},
    "stabilised": {"target_modules": NAMES, "use_rslora": True, "lora_alpha": 5},
    "patterns": {
        "target_modules": "all-linear",
        # In the order of the alphabet, which is how `peft` writes them: the first that fits counts.
        "rank_pattern": {r"layers\.1\..*": 7, "multi_modal_projector.linear": 1, "q_proj": 2},
        "alpha_pattern": {"^model.language_model.layers.0.mlp.up_proj": 3, "v_proj": 40},
    },
}


@pytest.fixture
def theirs(tmp_path: Path) -> torch.nn.Module:
    """A small model of `transformers`; `base` is a folder with the same."""
    return random_hugging_face_model(0)


@pytest.fixture
def base(tmp_path: Path, theirs: torch.nn.Module) -> Callable[[], PaliGemma2Model]:
    """Makes our model with the weights of theirs."""
    theirs.save_pretrained(tmp_path / "base")
    return lambda: load_model(tmp_path / "base").model


def of_peft(theirs: torch.nn.Module, seed: int = 0, **settings: object) -> torch.nn.Module:
    """Their model with an adapter that has learned something."""
    config = LoraConfig(**({"r": 4, "lora_alpha": 8, "lora_dropout": 0.1} | settings))
    model = get_peft_model(copy.deepcopy(theirs), config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0.0, 0.1, generator=generator)
    return model


def renamed(folder: Path, layout: KeyLayout) -> None:
    """Give the tensors the names that they have under another release of `transformers`."""
    prefix, tensors = "base_model.model.", load_file(folder / WEIGHTS_FILE)
    names = {key: prefix + stored_name(normalise(key.removeprefix(prefix)), layout) for key in tensors}
    save_file({names[key]: tensor for key, tensor in tensors.items()}, folder / WEIGHTS_FILE)


def with_adapter(model: PaliGemma2Model, adapter: Adapter) -> torch.Tensor:
    attach(model, {"it": adapter})
    with using_adapters(["it"], model.device):
        return our_logits(model)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("layout", ["new", "nested", "legacy"])
def test_an_adapter_of_peft_gives_the_same_logits(
    tmp_path: Path,
    theirs: torch.nn.Module,
    base: Callable[[], PaliGemma2Model],
    settings: dict[str, object],
    layout: KeyLayout,
) -> None:
    if layout == "legacy" and "alpha_pattern" in settings:  # the one that names a module from its beginning
        settings = settings | {"alpha_pattern": {"layers.0.mlp.up_proj": 3, "v_proj": 40}}
    taught = of_peft(theirs, **settings)
    taught.save_pretrained(tmp_path / "a")
    if layout != "new":
        renamed(tmp_path / "a", layout)
    model = base()
    adapter = read_adapter(tmp_path / "a", model.config)
    expected = their_logits(taught, model.config)
    assert (expected - our_logits(model)).abs().max() > 0.1
    torch.testing.assert_close(with_adapter(model, adapter), expected, atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("keys", "layers"),
    [
        ("new", DECODER),
        ("new", EVERYTHING),
        ("new", r".*layers\.1\..*|.*projector.*"),
        ("legacy", DECODER),
        # The two do not know the old name of the projector any more.
        ("legacy", r"(language|vision).*"),
        ("legacy", r".*layers\.1\..*"),
    ],
)
@pytest.mark.parametrize("is_rank_stabilized", [False, True])
def test_peft_computes_the_same_from_a_folder_we_save(
    tmp_path: Path,
    theirs: torch.nn.Module,
    base: Callable[[], PaliGemma2Model],
    keys: KeyLayout,
    layers: str,
    is_rank_stabilized: bool,
) -> None:
    model = base()
    adapter = varied(
        random_adapter(model.config, layers, alpha=7.5, is_rank_stabilized=is_rank_stabilized), model.config
    )
    save_adapter(tmp_path / "a", adapter, model.config, keys=keys)
    # A key that is missing or too many there is a warning, and so an error here.
    loaded = PeftModel.from_pretrained(theirs, tmp_path / "a").eval()
    expected = their_logits(loaded, model.config)
    torch.testing.assert_close(with_adapter(model, adapter), expected, atol=LOGIT_TOLERANCE, rtol=0)


IN_TRAINING = {
    "the decoder": LoraSettings(),
    "the image too": LoraSettings(parts=("image", "decoder"), rank=3, is_rank_stabilized=True),
    "patterns": LoraSettings(
        targets=("q_proj", "mlp.*"),
        rank_pattern={r"layers\.1\..*": 7, "q_proj": 2},
        alpha_pattern={"layers.0.mlp.up_proj": 3.0, "q_proj": 40.0},
    ),
}


def our_loss(model: PaliGemma2Model) -> torch.Tensor:
    token_ids, pixel_values, is_prefix = inputs(model.config)
    layout = PrefixLayout.from_flags(torch.ones_like(is_prefix), is_prefix)
    return suffix_loss(model(token_ids, pixel_values, layout), token_ids, is_prefix)


def their_loss(model: torch.nn.Module, config: ModelConfig) -> torch.Tensor:
    token_ids, pixel_values, is_prefix = inputs(config)
    return model(
        input_ids=token_ids,
        pixel_values=pixel_values,
        attention_mask=torch.ones_like(token_ids),
        token_type_ids=(~is_prefix).long(),
        labels=token_ids.masked_fill(is_prefix, -100),
    ).loss


def suffix_loss(logits: torch.Tensor, token_ids: torch.Tensor, is_prefix: torch.Tensor) -> torch.Tensor:
    is_target = ~is_prefix[:, 1:]
    return F.cross_entropy(logits[:, :-1][is_target], token_ids[:, 1:][is_target])


def descend(model: torch.nn.Module, loss_of: Callable[[], torch.Tensor], steps: int = 3) -> list[float]:
    """The losses of some steps of plain gradient descent."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("keys", ["new", "legacy"])
@pytest.mark.parametrize("settings", IN_TRAINING.values(), ids=IN_TRAINING)
def test_peft_computes_the_same_with_an_adapter_that_was_trained_here(
    tmp_path: Path,
    theirs: torch.nn.Module,
    base: Callable[[], PaliGemma2Model],
    settings: LoraSettings,
    keys: KeyLayout,
) -> None:
    if keys == "legacy" and "image" in settings.parts:  # `peft` does not know the projector's old name
        settings = replace(settings, parts=("vision_tower", "decoder"))
    model = base()
    before = our_logits(model)
    add_fresh_adapter(model, settings)
    losses = descend(model, lambda: our_loss(model), steps=6)
    assert losses[-1] < losses[0] - 0.1
    ours = our_logits(model)
    assert (ours - before).abs().max() > 0.1
    adapter = take_out(model, base_model="google/paligemma2-3b-pt-224")
    save_adapter(tmp_path / "a", adapter, model.config, keys=keys)
    loaded = PeftModel.from_pretrained(theirs, tmp_path / "a").eval()
    assert loaded.peft_config["default"].base_model_name_or_path == "google/paligemma2-3b-pt-224"
    torch.testing.assert_close(their_logits(loaded, model.config), ours, atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("layout", ["new", "nested", "legacy"])
@pytest.mark.parametrize("settings", ["the decoder by an expression", "stabilised", "patterns"])
def test_an_adapter_that_peft_trained_goes_on_here_with_the_same_losses(
    tmp_path: Path,
    theirs: torch.nn.Module,
    base: Callable[[], PaliGemma2Model],
    settings: str,
    layout: KeyLayout,
) -> None:
    chosen = SETTINGS[settings] | {"lora_dropout": 0.0}
    if "alpha_pattern" in chosen:  # one of its keys names a module from its beginning, in the new layout
        chosen |= {"alpha_pattern": {"layers.0.mlp.up_proj": 3, "v_proj": 40}}
    model = base()
    taught = of_peft(theirs, **chosen)
    descend(taught, lambda: their_loss(taught, model.config))
    taught.save_pretrained(tmp_path / "a")
    renamed(tmp_path / "a", layout)
    add_adapter(model, read_adapter(tmp_path / "a", model.config))
    expected = descend(taught, lambda: their_loss(taught, model.config), steps=4)
    assert descend(model, lambda: our_loss(model), steps=4) == pytest.approx(expected, rel=1e-5)


def varied(adapter: Adapter, config: ModelConfig) -> Adapter:
    """The same with another rank in one layer and another alpha in one more."""
    first, second, *_ = adapter.changes
    other = random_adapter(config, first.replace(".", r"\."), seed=9, rank=5, alpha=7.5)
    scaled = adapter.changes[second]._replace(alpha=2.0)
    return replace(adapter, changes={**adapter.changes, **other.changes, second: scaled})


@pytest.mark.parametrize("keys", ["new", "nested", "legacy"])
@pytest.mark.parametrize("layers", [DECODER, EVERYTHING, r".*layers\.1\..*"])
def test_what_was_saved_is_read_bit_for_bit(tmp_path: Path, keys: KeyLayout, layers: str) -> None:
    config = small_config()
    adapter = replace(
        varied(random_adapter(config, layers), config), base_model="google/paligemma2-3b-pt-224"
    )
    save_adapter(tmp_path / "a", adapter, config, keys=keys)
    read = read_adapter(tmp_path / "a", config)
    assert (read.base_model, read.is_rank_stabilized) == (adapter.base_model, False)
    assert read.changes.keys() == adapter.changes.keys()
    for layer, (a, b, alpha) in adapter.changes.items():
        assert torch.equal(read.changes[layer].a, a)
        assert torch.equal(read.changes[layer].b, b)
        assert read.changes[layer].alpha == alpha


def test_the_names_are_those_of_the_release_that_is_asked_for(tmp_path: Path) -> None:
    config = small_config()
    for keys in ("new", "legacy"):
        save_adapter(tmp_path / keys, random_adapter(config), config, keys=keys)
    layer = "layers.0.self_attn.q_proj.lora_A.weight"
    assert f"base_model.model.model.language_model.{layer}" in load_file(tmp_path / "new" / WEIGHTS_FILE)
    assert f"base_model.model.language_model.model.{layer}" in load_file(tmp_path / "legacy" / WEIGHTS_FILE)
    targets = json.loads((tmp_path / "new" / CONFIG_FILE).read_text())["target_modules"]
    kinds = "down_proj|gate_proj|k_proj|o_proj|q_proj|up_proj|v_proj"
    assert targets == rf".*language_model.*\.({kinds})"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter of the small model."""
    save_adapter(tmp_path / "adapter", random_adapter(small_config()), small_config())
    return tmp_path / "adapter"


def test_an_existing_folder_is_kept_unless_asked(folder: Path) -> None:
    other = random_adapter(small_config(), seed=1)
    with pytest.raises(InputError, match="already exists"):
        save_adapter(folder, other, small_config())
    save_adapter(folder, other, small_config(), overwrite=True)
    layer = "language_model.layers.0.mlp.up_proj"
    assert torch.equal(read_adapter(folder, small_config()).changes[layer].a, other.changes[layer].a)
    with pytest.raises(InputError, match="changes no layer"):
        save_adapter(folder, Adapter(changes={}), small_config())


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)


KEY = "base_model.model.model.language_model.layers.2.mlp.up_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop(KEY), "1 missing .*layers.2.mlp.up_proj.lora_A"),
        (lambda t: t.update({KEY.replace(".2.", ".9."): t[KEY].clone()}), "1 unexpected .*layers.9.mlp"),
        (lambda t: t.update({KEY.replace("lora_A", "lora_magnitude"): t[KEY].clone()}), "1 unexpected"),
        (lambda t: t.update({KEY: t[KEY][:2].clone()}), "1 with a wrong shape .*2, 64., not .3, 64."),
        (lambda t: t.update({KEY: t[KEY].int()}), "1 not floating point"),
        (lambda t: t[KEY].fill_(float("nan")), "1 not finite"),
        (lambda t: t.update({f"x.{key}": t.pop(key) for key in list(t)}), "56 missing .*; 56 unexpected"),
    ],
)
def test_tensors_that_are_not_those_of_the_settings_are_named(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], match: str
) -> None:
    change_tensors(folder, change)
    with pytest.raises(CheckpointError, match=match):
        read_adapter(folder, small_config())


def test_keys_of_two_releases_in_one_file_are_refused(folder: Path) -> None:
    def mix(tensors: dict[str, torch.Tensor]) -> None:
        tensors[KEY.replace("model.language_model", "language_model.model")] = tensors.pop(KEY)

    change_tensors(folder, mix)
    with pytest.raises(CheckpointError, match=r"1 missing .*; 1 unexpected"):
        read_adapter(folder, small_config())


@pytest.mark.parametrize("size", [{"hidden_size": 32}, {"num_layers": 3}, {"num_layers": 5}])
def test_an_adapter_of_a_larger_or_smaller_base_model_is_refused(
    tmp_path: Path, size: dict[str, int]
) -> None:
    adapter = replace(random_adapter(small_config()), base_model="google/paligemma2-3b-pt-224")
    save_adapter(tmp_path / "a", adapter, small_config())
    with pytest.raises(CheckpointError) as raised:
        read_adapter(tmp_path / "a", small_config(**size))
    assert "it was made for google/paligemma2-3b-pt-224 and not for this one" in raised.value.hint


def test_folders_that_hold_something_else_are_refused(tmp_path: Path, folder: Path) -> None:
    def refused(match: str, kind: type[PaliGemmaError] = CheckpointError) -> PaliGemmaError:
        with pytest.raises(kind, match=match) as raised:
            read_adapter(folder, small_config())
        return raised.value

    (folder / WEIGHTS_FILE).write_bytes(b"nonsense")
    refused("adapter_model.safetensors: cannot be read")
    (folder / WEIGHTS_FILE).rename(folder / "adapter_model.bin")
    refused("adapter_model.bin, a pickle")
    (folder / "adapter_model.bin").unlink()
    refused("no adapter_model.safetensors")
    (folder / CONFIG_FILE).rename(folder / "config.json")
    assert refused("no adapter_config.json").hint == "give it with `--model`"
    (folder / "config.json").unlink()
    folder.rmdir()
    refused("no adapter at", InputError)


def test_settings_that_name_no_layer_are_refused(folder: Path) -> None:
    settings = json.loads((folder / CONFIG_FILE).read_text()) | {"target_modules": ["query"]}
    (folder / CONFIG_FILE).write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"'query'.* are no linear layers"):
        read_adapter(folder, small_config())


def test_numbers_of_16_bits_are_kept_as_they_are(tmp_path: Path) -> None:
    config = small_config()
    whole = random_adapter(config)
    changes = {
        layer: LowRank(a.bfloat16(), b.bfloat16(), alpha) for layer, (a, b, alpha) in whole.changes.items()
    }
    save_adapter(tmp_path / "a", Adapter(changes=changes), config)
    read = read_adapter(tmp_path / "a", config)
    assert {change.a.dtype for change in read.changes.values()} == {torch.bfloat16}
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    model = model.to_empty(device="cpu").float()
    attach(model, {"it": read})
    assert adapter_names(model) == ("it",)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
