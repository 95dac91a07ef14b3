"""A small tokenizer for the shipped model: whole words, characters, bytes, then the 1153 extra tokens.

Any Unicode text comes back as it was: a word of the list is one token (with or without the space before it),
another word is read letter by letter, and a character outside printable ASCII byte by byte.
"""

import json
from collections.abc import Iterator, Sequence

from paligemma2.errors import ConfigError
from paligemma2.processing.tokenizer import EXTRA_MARKERS, IMAGE_TOKEN

CONTROL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
# A word with the space before it, else one character, also with its space: ignore_merges takes the part
# whole if the vocabulary has it, otherwise spells it.
_PARTS = r" ?\p{L}+| ?[\s\S]"


def tiny_vocabulary(words: Sequence[str]) -> tuple[str, ...]:
    """The pieces of the tiny tokenizer in the order of their ids, `<image>` last.

    Args:
        words: each is letters only, or one character (`;`, `?`, `7`); repeated words count once.

    Raises:
        ConfigError: a word could never be matched.
    """
    for word in words:
        if not (word.isalpha() or (len(word) == 1 and not word.isspace())):
            raise ConfigError(
                f"{word!r} cannot be a word of the tiny tokenizer",
                hint="use letters only, or a single character; split it otherwise",
            )
    return tuple(dict.fromkeys(_pieces(words)))


def build_tiny_tokenizer(words: Sequence[str]) -> str:
    """The text of a `tokenizer.json` that `tokenizers` and `transformers` read.

    Args:
        words: see `tiny_vocabulary`; the last id, `<image>`, is its length - 1.
    """
    ids = {piece: i for i, piece in enumerate(tiny_vocabulary(words))}
    byte_fallback = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    content: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(text, ids[text]) for text in (*CONTROL_TOKENS, *EXTRA_MARKERS)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": _PARTS},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": byte_fallback,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": True,
            "vocab": ids,
            "merges": [],
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def companion_files() -> dict[str, str]:
    """Name and text of the files that stand beside `tokenizer.json` in a Hugging Face folder."""
    named = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "PaliGemmaProcessor",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {"image_token": IMAGE_TOKEN},
        **named,
    }
    return {
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(named | {"image_token": IMAGE_TOKEN}, indent=2) + "\n",
    }


def _pieces(words: Sequence[str]) -> Iterator[str]:
    yield from CONTROL_TOKENS
    yield from (f"<0x{value:02X}>" for value in range(256))
    yield "\n"
    yield from (chr(code) for code in range(32, 127))
    for word in words:
        yield word
        yield f" {word}"
    yield from EXTRA_MARKERS


def _added_token(text: str, token_id: int) -> dict[str, object]:
    return {
        "id": token_id,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": text in CONTROL_TOKENS or text == IMAGE_TOKEN,
    }
