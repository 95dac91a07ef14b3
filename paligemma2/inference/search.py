"""Looking for objects with any of many names: prompts, answers and scores, brought together by picture."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from paligemma2.errors import InputError
from paligemma2.inference.constraints import Constraint, detect_grammar, segment_grammar
from paligemma2.inference.detection import read_objects
from paligemma2.model.config import ModelConfig
from paligemma2.processing import prompts
from paligemma2.processing.processor import Processor
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.types import Clip, Detection, Generation, ImageSource

Form = Literal["detect", "segment"]
Pictures: TypeAlias = tuple[ImageSource | Clip, ...]
"""The pictures of one prompt."""
_Item = TypeVar("_Item")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is looked for, and how.

    Attributes:
        form: ask for boxes, or for boxes and masks.
        groups: the labels of each prompt; every picture is asked each of the prompts.
        constrained: an answer can only be objects with labels of its prompt, else what the model likes.
        batch_size: prompts that are asked at once.
        max_new_tokens: where to cut an answer. An object of two words has about 8 tokens, 24 with a mask.

    Raises:
        InputError: `batch_size` or `max_new_tokens` is below 1.
    """

    form: Form
    groups: Sequence[tuple[str, ...]]
    constrained: bool
    batch_size: int
    max_new_tokens: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}", hint="give at least 1")


class Answers(Protocol):
    """A model with its processor; `PaliGemma2` is one."""

    processor: Processor

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants of the model."""

    def generate(
        self,
        images: Sequence[Pictures],
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        constraints: Sequence[Constraint | None],
    ) -> list[Generation]:
        """What the model writes for each prompt."""


def find_objects(model: Answers, images: Iterable[Pictures], search: Search) -> Iterator[list[Detection]]:
    """For each entry all objects in the answers about it, with their scores.

    An answer that does not end is cut, which is logged as a warning; the whole objects in it count.

    Args:
        model: that is asked.
        images: entries of one picture or several that belong together; read as they are needed.
        search: what to ask.

    Raises:
        InputError: a label cannot be used, or a prompt does not fit the model's context.
        ImageError: an image cannot be read.
    """
    form = _FORMS[search.form]
    questions = [form.prompt(*group) for group in search.groups]
    tokenizer = model.processor.tokenizer
    grammars = [form.grammar(tokenizer, group) if search.constrained else None for group in search.groups]
    for entries in _slices(images, max(search.batch_size // len(questions), 1)):
        limit = min(search.max_new_tokens, _room(model, questions, max(map(len, entries))))
        rows = ((e, q, g) for e in entries for q, g in zip(questions, grammars, strict=True))
        generations: list[Generation] = []
        for batch in _slices(rows, search.batch_size):
            asked, texts, constraints = zip(*batch, strict=True)
            generations += model.generate(asked, texts, limit, constraints=constraints)
        _warn_of_cut(generations, limit)
        answers = iter(generations)
        for _ in entries:
            read = [read_objects(answer, tokenizer) for answer in islice(answers, len(questions))]
            yield [found for each in read for found in each.detections]


class _PromptForm(NamedTuple):
    """How to ask, and what can be answered."""

    prompt: Callable[..., str]
    grammar: Callable[[Tokenizer, Sequence[str]], Constraint]


_FORMS: dict[Form, _PromptForm] = {
    "detect": _PromptForm(prompts.detect, detect_grammar),
    "segment": _PromptForm(prompts.segment, segment_grammar),
}


def _slices(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _room(model: Answers, questions: Sequence[str], num_images: int) -> int:
    longest = max(len(model.processor.prompt_ids(question, num_images)) for question in questions)
    return max(model.config.text.max_positions - longest, 1)


def _warn_of_cut(generations: Sequence[Generation], limit: int) -> None:
    count = sum(generation.finish_reason == "length" for generation in generations)
    if count:
        _log.warning("%d of %d answers did not end within %d tokens", count, len(generations), limit)
