"""The two vocabulary files a checkpoint may have, behind one small interface.

Neither ever yields a marker (`<bos>`, `<image>`, `<loc0001>`, `<start_of_turn>`, …) for text: what looks like
one is spelled. `Tokenizer` puts markers in by id.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from paligemma2 import optional
from paligemma2.errors import CheckpointError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Pieces of the Gemma vocabulary that are matched whole but mean no more than their text.
_HTML_NAMES = (
    "table caption thead tbody tfoot tr th td h1 h2 h3 h4 h5 h6 blockquote strong em b i u s sub sup code"
)
_HARMLESS = re.compile(rf"[\s▁]*|</?(?:{_HTML_NAMES.replace(' ', '|')})>")
_CONTROL = re.compile(
    r"<(?:pad|eos|bos|unk|mask|2mass|image|unused\d+|(?:start|end)_of_turn|loc\d{4}|seg\d{3})>"
    r"|\[@BOS@\]|\[toxicity=0\]"
)
_UNREADABLE = "the file may be damaged or cut short; download it again"


class Vocabulary(Protocol):
    """What `Tokenizer` needs from a vocabulary file."""

    @property
    def markers(self) -> Mapping[str, int]:
        """Text and id of every piece with a meaning beyond its text."""

    @property
    def byte_values(self) -> Mapping[int, int]:
        """The byte 0..255 that each byte-fallback id stands for."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no marker, nothing added in front or behind."""

    def piece_text(self, token_id: int) -> str:
        """The text of one id that is not a byte; "" for an id that does not exist."""


class JsonVocabulary:
    """A `tokenizer.json`, read by the library `tokenizers`.

    Args:
        content: the text of the file, or the path of one.
        extra_markers: in the order of their ids; those that the file lacks are put behind its last id.

    Raises:
        CheckpointError: the file cannot be read.
    """

    def __init__(self, content: str | Path, *, extra_markers: Sequence[str]) -> None:
        import tokenizers

        self._tokenizer = _read_json(content)
        known = self._tokenizer.get_added_tokens_decoder().values()
        harmless = {token.content for token in known if _HARMLESS.fullmatch(token.content)}
        contents = [token.content for token in known if token.content not in harmless]
        contents += [text for text in extra_markers if text not in set(contents)]
        # Tokens declared special are plain text to the encoder while `encode_special_tokens` is on.
        self._tokenizer.add_special_tokens(
            [tokenizers.AddedToken(text, special=True, normalized=False) for text in contents]
        )
        self._tokenizer.encode_special_tokens = True
        self.markers: Mapping[str, int] = {text: self._tokenizer.token_to_id(text) for text in contents}
        self.byte_values: Mapping[int, int] = self._find_bytes()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tokenizer.encode_special_tokens = True  # pickling loses this switch

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def piece_text(self, token_id: int) -> str:
        """The text of one id."""
        text: str = self._tokenizer.decode([token_id], skip_special_tokens=False)
        return text

    def _find_bytes(self) -> dict[int, int]:
        ids = {value: self._tokenizer.token_to_id(f"<0x{value:02X}>") for value in range(256)}
        return {token_id: value for value, token_id in ids.items() if token_id is not None}


class SentencePieceVocabulary:
    """A `tokenizer.model`, read by the library `sentencepiece` (extra `bigvision`).

    Args:
        path: the file.
        extra_markers: in the order of their ids; those that the file lacks are put behind its last id.

    Raises:
        CheckpointError: the file cannot be read.
        MissingExtra: sentencepiece is not installed.
    """

    def __init__(self, path: Path, *, extra_markers: Sequence[str]) -> None:
        library = optional.require("sentencepiece", extra="bigvision")
        try:
            self._processor = library.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path}: not a sentencepiece vocabulary", hint=_UNREADABLE) from error
        size = self._processor.vocab_size()
        pieces = self._processor.id_to_piece(list(range(size)))
        markers = {piece: i for i, piece in enumerate(pieces) if _CONTROL.fullmatch(piece)}
        for text in extra_markers:
            if text not in markers:
                markers[text] = size
                size += 1
        self.markers: Mapping[str, int] = markers
        self.byte_values: Mapping[int, int] = {
            i: int(match[1], 16) for i, piece in enumerate(pieces) if (match := _BYTE.fullmatch(piece))
        }

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        # Sentencepiece always matches its user-defined pieces; nothing matches across a cut.
        cuts = [0, *(match.start() + 1 for match in _CONTROL.finditer(text)), len(text)]
        ids: list[int] = []
        for start, end in itertools.pairwise(cuts):
            ids += self._processor.encode(text[start:end])
        return ids

    def piece_text(self, token_id: int) -> str:
        """The text of one id."""
        if token_id >= self._processor.vocab_size():
            return next((text for text, known in self.markers.items() if known == token_id), "")
        piece: str = self._processor.id_to_piece(token_id)
        return piece.replace("▁", " ")


def _read_json(content: str | Path) -> Any:
    import tokenizers

    try:
        if isinstance(content, Path):
            return tokenizers.Tokenizer.from_file(str(content))
        return tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises bare Exception
        name = content if isinstance(content, Path) else "tokenizer.json"
        raise CheckpointError(f"{name}: not a tokenizer file ({error})", hint=_UNREADABLE) from error
