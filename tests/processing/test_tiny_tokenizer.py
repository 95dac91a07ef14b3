import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.checkpoint.save import preprocessor_settings
from paligemma2.errors import ConfigError
from paligemma2.processing.processor import Processor
from paligemma2.processing.tiny_tokenizer import build_tiny_tokenizer, companion_files, tiny_vocabulary
from paligemma2.processing.tokenizer import LOCATION_TOKENS, MASK_TOKENS, Tokenizer

# transformers 5.23 hands numpy a tensor in the old way.
IGNORE_THEIR_WARNING = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tiny, config_for, tiny_json, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    (path / "tokenizer.json").write_text(tiny_json, encoding="utf-8")
    image_settings = json.dumps(preprocessor_settings(config_for(tiny.image_id)))
    (path / "preprocessor_config.json").write_text(image_settings)
    for name, text in companion_files().items():
        (path / name).write_text(text)
    return path


@pytest.fixture(scope="module")
def reference(folder):
    """transformers' tokenizer; it reads user text with special tokens in it as those tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def test_ids_stand_in_the_fixed_order(words):
    pieces = tiny_vocabulary(words)
    assert pieces[:5] == ("<pad>", "<eos>", "<bos>", "<unk>", "<0x00>")
    assert pieces[-1153:] == (*LOCATION_TOKENS, *MASK_TOKENS, "<image>")
    assert len(set(pieces)) == len(pieces)


def test_words_are_one_token_with_and_without_a_space(tiny):
    assert [len(tiny.encode(text)) for text in ("cat", " cat", ";", " ;", "\n")] == [1] * 5


def test_unknown_words_are_read_letter_by_letter(tiny):
    assert len(tiny.encode("CAT")) == 3
    assert len(tiny.encode(" cats")) == 5
    assert len(tiny.encode("é")) == 2


@pytest.mark.parametrize("word", ["", "two words", " cat", "c4t", "\n", "t-shirt"])
def test_a_word_that_can_never_match_is_refused(word):
    with pytest.raises(ConfigError, match="cannot be a word"):
        build_tiny_tokenizer([word])


def test_the_text_is_the_same_every_time(tiny, tiny_json, words):
    assert tiny_json == build_tiny_tokenizer([*words, "cat"])
    assert json.loads(tiny_json)["model"]["vocab"]["<image>"] == tiny.image_id


@settings(max_examples=50, deadline=None)
@given(
    text=st.text(
        alphabet=st.one_of(st.sampled_from("cat doen; CN\n7"), st.characters(exclude_categories=["Cs"]))
    )
)
def test_transformers_reads_the_same_ids(tiny, reference, text):
    ids = reference(text, add_special_tokens=False)["input_ids"]
    assert ids == tiny.encode(text, allow_special=True)
    assert reference.decode(ids) == text


@IGNORE_THEIR_WARNING
def test_transformers_builds_a_working_processor_from_the_folder(tiny, config_for, folder):
    from transformers import PaliGemmaProcessor

    reference = PaliGemmaProcessor.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    batch = reference(images=pixels, text="caption en", return_tensors="pt")
    processor = Processor.from_folder(folder, config_for(tiny.image_id))
    assert batch["input_ids"][0].tolist() == processor.prompt_ids("caption en")
    torch.testing.assert_close(
        batch["pixel_values"][0], torch.from_numpy(processor.pixels(pixels)), rtol=0, atol=1e-6
    )


@IGNORE_THEIR_WARNING
def test_a_folder_of_transformers_is_read_back(tiny, config_for, folder, tmp_path):
    from transformers import PaliGemmaProcessor

    PaliGemmaProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path, config_for(tiny.image_id))
    text = "<loc0001> caption cat <eos>"
    assert tokenizer.encode(text) == tiny.encode(text)
    assert tokenizer.encode(text, allow_special=True) == tiny.encode(text, allow_special=True)
