"""What `docs/from-transformers.md` says of `transformers` and `peft`, and of the same things here."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor
from transformers.training_args import OptimizerNames

import paligemma2
from paligemma2.assets import PICTURES_FOLDER, TINY_FOLDER
from paligemma2.errors import CheckpointError, ConfigError, InputError
from paligemma2.jobs.convert import run as convert
from paligemma2.model.lora_settings import LoraSettings
from paligemma2.model.lora_training import add_fresh_adapter
from paligemma2.training.objective import SuffixObjective
from tests.checkpoint.small_checkpoints import random_hugging_face_model
from tests.small_adapter import save_random_adapter

pytestmark = [
    pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet"),
    # `peft` asks `transformers` for what that has renamed.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
PICTURE = PICTURES_FOLDER / "shapes.png"
QUESTION, ANSWER = "answer en what color is the star?", "red star and blue"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "from-transformers.md"


@pytest.fixture(scope="module")
def theirs() -> Any:
    return PaliGemmaForConditionalGeneration.from_pretrained(
        TINY_FOLDER, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def processor() -> Any:
    return PaliGemmaProcessor.from_pretrained(TINY_FOLDER)


@pytest.fixture(scope="module")
def ours() -> paligemma2.PaliGemma2:
    return paligemma2.load("tiny", device="cpu", for_training=True)


def encoded(processor: Any, *prompts: str, **more: Any) -> Any:
    with Image.open(PICTURE) as picture:
        pictures = [picture.convert("RGB")] * len(prompts)
    texts = [f"<image>{prompt}" for prompt in prompts]
    return processor(text=texts, images=pictures, return_tensors="pt", **more)


def example(suffix: str | None, prefix: str = QUESTION) -> paligemma2.Example:
    return paligemma2.Example(images=(PICTURE,), prefix=prefix, suffix=suffix)


def test_both_write_the_same_text(theirs: Any, processor: Any, ours: paligemma2.PaliGemma2) -> None:
    for prompt in ("caption en", QUESTION, "detect star"):
        inputs = encoded(processor, prompt)
        output = theirs.generate(**inputs, max_new_tokens=30, do_sample=False)
        start = inputs["input_ids"].shape[-1]
        text = processor.decode(output[0][start:], skip_special_tokens=prompt != "detect star")
        (answer,) = ours.generate(PICTURE, prompt, max_new_tokens=30)
        assert answer.text == text.removesuffix("<eos>")


@pytest.mark.parametrize(("average", "is_same"), [("token", True), ("example", False)])
def test_the_loss_over_tokens_is_theirs(
    theirs: Any, processor: Any, ours: paligemma2.PaliGemma2, average: Any, is_same: bool
) -> None:
    inputs = encoded(processor, QUESTION, "caption en", suffix=[ANSWER, "a"], padding="longest")
    batch = ours.processor.encode([example(ANSWER), example("a", "caption en")], train=True)
    with torch.no_grad():
        expected = theirs(**inputs).loss.item()
        found = SuffixObjective(ours.model, average=average)(batch).item()
    assert (found == pytest.approx(expected, rel=1e-5)) == is_same


def test_without_a_suffix(theirs: Any, processor: Any, ours: paligemma2.PaliGemma2) -> None:
    with torch.no_grad():
        assert theirs(**encoded(processor, QUESTION)).loss.isnan()
    with pytest.raises(InputError, match="has no suffix"):
        ours.processor.encode([example(None)], train=True)


def test_without_types_of_tokens(theirs: Any, processor: Any, ours: paligemma2.PaliGemma2) -> None:
    inputs = encoded(processor, QUESTION, suffix=[ANSWER])
    with torch.no_grad():
        right = theirs(**inputs).loss
        del inputs["token_type_ids"]
        assert (theirs(**inputs).loss - right).abs() > 0.1
    with pytest.raises(TypeError, match="layout"):
        ours.model(inputs["input_ids"], inputs["pixel_values"])  # type: ignore[call-arg]


def test_truncation(processor: Any, ours: paligemma2.PaliGemma2) -> None:
    whole = encoded(processor, QUESTION, suffix=[ANSWER * 4])
    length, start = whole["input_ids"].shape[1], int((whole["labels"][0] == -100).sum())
    assert start > ours.config.num_image_tokens
    cut = encoded(processor, QUESTION, suffix=[ANSWER * 4], max_length=length - 5, truncation="only_second")
    assert whole["input_ids"][0, -1] == ours.config.eos_token_id
    assert cut["input_ids"][0, -1] != ours.config.eos_token_id
    cut = encoded(processor, QUESTION, suffix=[ANSWER], max_length=start, truncation=True)
    newline = ours.processor.tokenizer.newline_ids[-1]
    assert whole["input_ids"][0, start - 1] == newline
    assert newline not in cut["input_ids"][0]
    with pytest.raises(InputError, match="the model's context is"):
        ours.processor.encode([example("red " * ours.config.text.max_positions)], train=True)


def test_the_side_of_padding(ours: paligemma2.PaliGemma2) -> None:
    examples = [example("a", "caption en"), example(ANSWER)]
    assert ours.processor.encode(examples, train=True).layout.is_valid[:, 0].all()
    prompts = ours.processor.encode(examples, train=False)
    assert prompts.layout.is_valid[:, -1].all()
    wrong = ours.processor.encode(examples, train=False, padding_side="right")
    with pytest.raises(InputError, match="padded on the right"):
        ours.model.prefill(wrong.token_ids, None, wrong.layout, 1)


def test_words_of_the_notebook_that_are_ignored_today(processor: Any) -> None:
    separate = encoded(processor, QUESTION)["input_ids"]
    assert torch.equal(encoded(processor, QUESTION, tokenize_newline_separately=False)["input_ids"], separate)
    settings = {"load_in_4bit": True, "bnb_4bit_compute_type": torch.bfloat16}
    assert BitsAndBytesConfig(**settings).bnb_4bit_compute_dtype == torch.float32
    assert "adamw_hf" not in {name.value for name in OptimizerNames}


def lora_layers(model: nn.Module) -> set[str]:
    return {
        part
        for name, _ in model.named_modules()
        if name.endswith(("lora_A", ".base"))
        for part in ("vision_tower", "language_model")
        if part in name
    }


def test_targets_in_the_image_encoder_and_nowhere(ours: paligemma2.PaliGemma2) -> None:
    names = ["q_proj", "nonsense"]
    theirs = get_peft_model(random_hugging_face_model(0), LoraConfig(r=2, target_modules=names))
    assert lora_layers(theirs) == {"vision_tower", "language_model"}
    model = paligemma2.load("tiny", device="cpu", for_training=True).model
    with pytest.raises(ConfigError, match="the target 'nonsense'"):
        add_fresh_adapter(model, LoraSettings(targets=tuple(names)))
    add_fresh_adapter(model, LoraSettings(targets=("q_proj",)))
    assert lora_layers(model) == {"language_model"}


def test_keys_of_an_adapter_that_do_not_fit(tmp_path: Path, theirs: Any) -> None:
    config = paligemma2.load("tiny", device="cpu").config
    file = save_random_adapter(tmp_path / "a", config) / "adapter_model.safetensors"
    save_file({key.replace("layers.", "blocks."): tensor for key, tensor in load_file(file).items()}, file)
    inputs: dict[str, Tensor] = {
        "input_ids": torch.tensor([[2, 5, 9]]),
        "attention_mask": torch.ones(1, 3, dtype=torch.long),
    }
    with torch.no_grad():
        plain = theirs(**inputs).logits
        with pytest.warns(UserWarning, match="missing adapter keys"):
            adapted = PeftModel.from_pretrained(theirs, tmp_path / "a")
        assert torch.equal(adapted(**inputs).logits, plain)
        adapted.unload()
    with pytest.raises(CheckpointError, match=r"missing .*; .* unexpected"):
        paligemma2.load("tiny", device="cpu", adapter=tmp_path / "a")


def test_weights_in_16_bits_that_are_updated_in_them() -> None:
    for dtype, moved in ((torch.bfloat16, False), (torch.float32, True)):
        weight = nn.Parameter(torch.tensor([0.02], dtype=dtype))
        before, optimizer = weight.item(), torch.optim.AdamW([weight], lr=2e-5, weight_decay=1e-6)
        for _ in range(100):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        assert (weight.item() != before) == moved
    model = paligemma2.load("tiny", device="cpu", dtype="bfloat16", for_training=True).model
    add_fresh_adapter(model, LoraSettings(rank=2))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_merging_into_rounded_weights(tmp_path: Path) -> None:
    config = paligemma2.load("tiny", device="cpu").config
    adapter = save_random_adapter(tmp_path / "a", config)
    convert(TINY_FOLDER, tmp_path / "low", quantize="int4")
    with pytest.raises(InputError, match="cannot be changed"):
        convert(tmp_path / "low", tmp_path / "new", adapter=adapter)


def test_location_tokens_that_are_typed(processor: Any, ours: paligemma2.PaliGemma2) -> None:
    prompt = "detect <loc0100>"
    location = processor.tokenizer.convert_tokens_to_ids("<loc0100>")
    assert location in encoded(processor, prompt)["input_ids"]
    assert location not in ours.encode(PICTURE, prompt).token_ids
    assert location in ours.processor.encode([example("<loc0100> star")], train=True).token_ids


def test_the_page_has_both_sides_of_every_part() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"^```py\n", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^```python\n", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^\| theirs \| here \|$", text, re.MULTILINE)) == 3
