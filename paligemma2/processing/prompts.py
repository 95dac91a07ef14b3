"""The prompt forms that the checkpoints were trained on (model card; arXiv:2407.07726, section 3.2).

`caption`, `ocr`, `answer`, `question`, `detect`, `segment` and `caption_region` are of pre-training;
`describe` and `cap` of the mix checkpoints. Any other text goes to the model as it is, without a builder.
"""

from dataclasses import dataclass
from typing import NamedTuple

from paligemma2.errors import InputError
from paligemma2.processing.locations import box_to_text
from paligemma2.types import Box


class Piece(NamedTuple):
    """Part of a prompt; only in a `trusted` one do location and mask tokens mean their tokens."""

    text: str
    trusted: bool = False


@dataclass(frozen=True)
class Prompt:
    """A prompt in which some parts hold real location tokens. A plain `str` is a prompt that holds none."""

    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def caption(language: str = "en") -> str:
    """Asks for a short caption, the pre-training form."""
    return f"caption {language}"


def cap(language: str = "en") -> str:
    """Asks a mix checkpoint for a caption in the style of COCO."""
    return f"cap {language}"


def describe(language: str = "en") -> str:
    """Asks a mix checkpoint for a long description."""
    return f"describe {language}"


def ocr() -> str:
    """Asks for the text in the image, line by line."""
    return "ocr"


def answer(question: str, language: str = "en") -> str:
    """Asks a question about the image."""
    return f"answer {language} {question}"


def question(answer: str, language: str = "en") -> str:
    """Asks for a question in `language` that has this English answer."""
    return f"question {language} {answer}"


def detect(*labels: str) -> str:
    """Asks for the boxes of all things with these names.

    Raises:
        InputError: there is no label, or one is empty or has a `;`, which separates labels.
    """
    return f"detect {_join_labels(labels)}"


def segment(*labels: str) -> str:
    """Asks for box and mask of the things with these names.

    Raises:
        InputError: there is no label, or one is empty or has a `;`, which separates labels.
    """
    return f"segment {_join_labels(labels)}"


def caption_region(box: Box) -> Prompt:
    """Asks for a caption of what is inside `box`, whose location tokens stand in the prompt."""
    return Prompt((Piece("caption "), Piece(box_to_text(box), trusted=True)))


def pieces_of(prompt: str | Prompt) -> tuple[Piece, ...]:
    """The parts of a prompt; a plain string is one part that is not trusted."""
    return (Piece(prompt),) if isinstance(prompt, str) else prompt.pieces


def _join_labels(labels: tuple[str, ...]) -> str:
    if not labels:
        raise InputError("no label to look for", hint="name at least one thing, as in detect('cat')")
    for label in labels:
        if not label.strip() or ";" in label:
            raise InputError(
                f"{label!r} is not a label", hint="give each thing as its own argument, without ';'"
            )
    return " ; ".join(label.strip() for label in labels)
