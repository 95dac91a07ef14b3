"""How many tokens the rows of a data set have, and which do not fit."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from paligemma2.data.doctor.text import Complaint
from paligemma2.data.rows import DataRow
from paligemma2.errors import InputError
from paligemma2.processing.processor import Processor


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of text per row: begin token, prefix, separator, suffix, end token; no image tokens.

    Attributes:
        median: half of the rows are not longer.
        percentile_95: 95 of 100 rows are not longer.
        largest: of all rows.
        largest_in_all: of all rows, with their image tokens.
        context: what the model allows, with image tokens.
    """

    median: int
    percentile_95: int
    largest: int
    largest_in_all: int
    context: int


class TextLengths:
    """Counts the tokens of rows as the processor makes them.

    Args:
        processor: of the model that shall be trained.
        text_length: tokens of text that training keeps, as in big_vision's configurations; None for all that
            the context holds.
    """

    def __init__(self, processor: Processor, text_length: int | None = None) -> None:
        self._processor, self._text_length = processor, text_length
        self._context = processor.config.text.max_positions
        self._counts: Counter[int] = Counter()
        self._largest_in_all = 0
        self._num_prompt_ids = lru_cache(maxsize=4096)(self._count_prompt)

    def add(self, row: DataRow) -> Iterator[Complaint]:
        """Count a row with a suffix; says whether something of it is lost."""
        try:
            num_prompt = self._num_prompt_ids(row.prefix, len(row.images))
            num_suffix = len(self._processor.suffix_ids(row.suffix or ""))
        except InputError as error:
            yield Complaint("cannot-encode", error.message)
            return
        in_all = num_prompt + num_suffix
        text = in_all - len(row.images) * self._processor.config.num_image_tokens
        self._counts[text] += 1
        self._largest_in_all = max(self._largest_in_all, in_all)
        if in_all > self._context:
            yield Complaint("cannot-encode", f"{in_all} tokens, the model's context is {self._context}")
        elif self._text_length is not None and text > self._text_length:
            lost = text - self._text_length
            yield Complaint("cut-text", f"{text} tokens of text, the last {lost} of them are cut off")

    @property
    def lengths(self) -> Lengths | None:
        """What was counted; None without a row."""
        if not self._counts:
            return None
        return Lengths(
            median=_quantile(self._counts, 0.5),
            percentile_95=_quantile(self._counts, 0.95),
            largest=max(self._counts),
            largest_in_all=self._largest_in_all,
            context=self._context,
        )

    def _count_prompt(self, prefix: str, num_images: int) -> int:
        return len(self._processor.prompt_ids(prefix, num_images))


def _quantile(counts: Mapping[int, int], share: float) -> int:
    """The least value that is not exceeded by this share of what was counted."""
    total, seen = sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * total:
            return value
    raise AssertionError("nothing was counted")
