"""Text to token ids and back, with the 1152 location and mask tokens at their exact ids."""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from paligemma2.errors import CheckpointError, InputError
from paligemma2.model.config import NUM_LOCATION_TOKENS, NUM_MASK_TOKENS, ModelConfig
from paligemma2.processing.vocabulary import JsonVocabulary, SentencePieceVocabulary, Vocabulary

LOCATION_TOKENS = tuple(f"<loc{i:04d}>" for i in range(NUM_LOCATION_TOKENS))
MASK_TOKENS = tuple(f"<seg{i:03d}>" for i in range(NUM_MASK_TOKENS))
IMAGE_TOKEN = "<image>"
EXTRA_MARKERS = (*LOCATION_TOKENS, *MASK_TOKENS, IMAGE_TOKEN)
_LOCATION_OR_MASK = re.compile(r"<loc[0-9]{4}>|<seg[0-9]{3}>")


class Tokenizer:
    """A checkpoint's own vocabulary with PaliGemma's extra tokens.

    Make one with `from_folder` or `from_json`. Safe to share between threads, and to pickle when it came
    from a `tokenizer.json`.

    Args:
        vocabulary: the file behind it.
        config: says which ids the extra and control tokens must have.

    Raises:
        CheckpointError: the vocabulary has one of those tokens at another id.
    """

    def __init__(self, vocabulary: Vocabulary, config: ModelConfig) -> None:
        first_mask = config.image_token_id - NUM_MASK_TOKENS
        self.location_ids = range(first_mask - NUM_LOCATION_TOKENS, first_mask)
        self.mask_ids = range(first_mask, config.image_token_id)
        self.image_id = config.image_token_id
        self.pad_id = config.pad_token_id
        self.eos_id = config.eos_token_id
        self.bos_id = config.bos_token_id
        self._vocabulary = vocabulary
        self._check_ids()
        by_length = sorted(vocabulary.markers, key=len, reverse=True)
        self._any_marker = re.compile("|".join(map(re.escape, by_length)))
        self._not_text = frozenset((self.pad_id, self.bos_id, self.eos_id, self.image_id))
        self.newline_ids = tuple(self.encode("\n"))
        self._prepare_cache()

    @classmethod
    def from_folder(cls, path: str | Path, config: ModelConfig) -> "Tokenizer":
        """The tokenizer of a checkpoint folder: its `tokenizer.json`, else its `tokenizer.model`.

        Raises:
            CheckpointError: neither file is there, one is damaged, or its ids do not fit `config`.
            MissingExtra: only `tokenizer.model` is there and sentencepiece is not installed.
        """
        folder = Path(path)
        json_file, model_file = folder / "tokenizer.json", folder / "tokenizer.model"
        if json_file.is_file():
            return cls(JsonVocabulary(json_file, extra_markers=EXTRA_MARKERS), config)
        if model_file.is_file():
            return cls(SentencePieceVocabulary(model_file, extra_markers=EXTRA_MARKERS), config)
        raise CheckpointError(
            f"{folder}: neither tokenizer.json nor tokenizer.model is there",
            hint="download the whole folder, or copy the tokenizer of google/paligemma2-3b-pt-224 into it",
        )

    @classmethod
    def from_json(cls, text: str, config: ModelConfig) -> "Tokenizer":
        """The tokenizer whose `tokenizer.json` has this text.

        Raises:
            CheckpointError: the text is damaged, or its ids do not fit `config`.
        """
        return cls(JsonVocabulary(text, extra_markers=EXTRA_MARKERS), config)

    def encode(self, text: str, *, allow_locations: bool = False, allow_special: bool = False) -> list[int]:
        """Token ids of `text` alone: no bos or eos is added.

        As it stands this is safe for text typed by a user: whatever it holds, no bos, eos, pad, image,
        location, mask or other control token comes out; what looks like one is spelled.

        Args:
            text: any Unicode text.
            allow_locations: `<loc0000>`… and `<seg000>`… mean their tokens (answers to train on).
            allow_special: every special token is meant, also `<bos>`, `<eos>` and `<image>`.

        Raises:
            InputError: the text holds a lone surrogate, which is not Unicode text.
        """
        _check_unicode(text)
        if not (allow_locations or allow_special):
            return self._vocabulary.encode(text)
        pattern = self._any_marker if allow_special else _LOCATION_OR_MASK
        ids: list[int] = []
        end = 0
        for match in pattern.finditer(text):
            marker_id = self._vocabulary.markers.get(match[0])
            if marker_id is None:  # `<loc1024>` looks like a token and is none
                continue
            if match.start() > end:
                ids += self._vocabulary.encode(text[end : match.start()])
            ids.append(marker_id)
            end = match.end()
        return ids + self._vocabulary.encode(text[end:]) if end < len(text) else ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, location and mask tokens spelled out; pad, bos, eos and image left out.

        Bytes that are not UTF-8 become U+FFFD, ids that do not exist nothing.
        """
        return "".join(self.stream(ids))

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The pieces of `decode(ids)` as the ids arrive; a piece never ends inside a character."""
        decoder = self.decoder()
        for token_id in ids:
            if piece := decoder.push(token_id):
                yield piece
        if piece := decoder.finish():
            yield piece

    def decoder(self) -> "StreamDecoder":
        """A decoder that takes one id at a time."""
        return StreamDecoder(self)

    def is_text(self, token_id: int) -> bool:
        """Whether `decode` shows this id at all: not pad, bos, eos, image."""
        return token_id not in self._not_text

    def byte_value(self, token_id: int) -> int | None:
        """The byte 0..255 that a byte-fallback id stands for, None for every other id."""
        return self._vocabulary.byte_values.get(token_id)

    def piece_text(self, token_id: int) -> str:
        """The text of one id that is not a byte."""
        return self._piece_text(token_id)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_piece_text"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare_cache()

    def _prepare_cache(self) -> None:
        self._piece_text = lru_cache(maxsize=4096)(self._vocabulary.piece_text)

    def _check_ids(self) -> None:
        markers = self._vocabulary.markers
        expected: dict[str, int] = {
            **dict(zip(LOCATION_TOKENS, self.location_ids, strict=True)),
            **dict(zip(MASK_TOKENS, self.mask_ids, strict=True)),
            IMAGE_TOKEN: self.image_id,
        }
        controls = {"<pad>": self.pad_id, "<eos>": self.eos_id, "<bos>": self.bos_id}
        _check_equal(markers, expected | controls)


class StreamDecoder:
    """Turns ids into text one at a time; see `Tokenizer.stream`.

    Args:
        tokenizer: whose ids they are.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that is complete after this id; often "" inside a character spelled in bytes."""
        if not self._tokenizer.is_text(token_id):
            return ""
        value = self._tokenizer.byte_value(token_id)
        if value is not None:
            return self._bytes.decode(bytes((value,)))
        return self.finish() + self._tokenizer.piece_text(token_id)

    @property
    def is_inside_character(self) -> bool:
        """Whether bytes of an unfinished character are held back."""
        return bool(self._bytes.getstate()[0])

    def finish(self) -> str:
        """What is left of an unfinished character, as U+FFFD; "" when there is none."""
        rest = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return rest


def _check_equal(markers: Mapping[str, int], expected: Mapping[str, int]) -> None:
    wrong = [text for text, token_id in expected.items() if markers.get(text) != token_id]
    if not wrong:
        return
    found = markers.get(wrong[0])
    where = "is not in the vocabulary" if found is None else f"has the id {found}"
    raise CheckpointError(
        f"{len(wrong)} tokens are not where config.json puts them: {wrong[0]} {where}, "
        f"expected {expected[wrong[0]]}",
        hint="tokenizer and config.json are of different models; download the whole folder again",
    )


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text has half a character (U+{ord(text[error.start]):04X}) at position {error.start}",
            hint="read the text as UTF-8, or replace the lone surrogate",
        ) from error
