"""Rows shown in full: every token with its role, what attends to what, and where the loss is."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paligemma2.data.doctor.findings import Place
from paligemma2.data.rows import DataRow
from paligemma2.errors import InputError
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.types import Example

TokenRole: TypeAlias = Literal["image", "prefix", "separator", "suffix", "end", "padding"]
TOKEN_ROLES: tuple[TokenRole, ...] = ("image", "prefix", "separator", "suffix", "end", "padding")
_LONGEST = 1_000_000  # tokens: what does not fit the model is shown too, with a mark where it is cut
_SHOWN_OF_A_RUN = 6  # image and padding tokens, which are all alike
_SHOWN_TEXT = 120


@dataclass(frozen=True, kw_only=True)
class ShownToken:
    """One token, or several of the same id in a row.

    Attributes:
        id: the token's.
        text: what it stands for; bytes as `<0xE2>`.
        role: in the example.
        count: how many there are next to each other.
        has_loss: the model learns to write it.
        is_cut: it is behind what the model or the text length allows.
    """

    id: int
    text: str
    role: TokenRole
    count: int = 1
    has_loss: bool = False
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownMask:
    """What attends to what, for some tokens of an example: of equal ones only a few.

    Attributes:
        roles: of the tokens, in order.
        is_visible: bool [shown, shown], may the query (first) see the key (second)?
        has_loss: bool [shown].
    """

    roles: tuple[TokenRole, ...]
    is_visible: NDArray[np.bool_]
    has_loss: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """A row as the model is trained on it.

    Attributes:
        why: this row was chosen.
        place: where it is written.
        prefix: its text.
        suffix: its text.
        tokens: the whole sequence.
        mask: drawn from the layout that training uses.
    """

    why: str
    place: Place
    prefix: str
    suffix: str
    tokens: tuple[ShownToken, ...]
    mask: ShownMask


class Showcase:
    """Chooses rows worth showing: the first ones, the longest, the one with most objects, and broken ones.

    Args:
        num_first: rows from the beginning.
    """

    def __init__(self, num_first: int) -> None:
        self._num_first = num_first
        self._chosen: dict[str, tuple[int, DataRow]] = {}
        self._num_rows = self._longest = self._most = 0

    def offer(self, row: DataRow, num_objects: int, rules: Sequence[str]) -> None:
        """Look at a row that has a suffix, with the rules that it breaks."""
        if self._num_first < 1:
            return
        self._num_rows += 1
        numbered = (self._num_rows, row)
        if self._num_rows <= self._num_first:
            self._chosen[f"row {self._num_rows}"] = numbered
        length = len(row.prefix) + len(row.suffix or "")
        if length > self._longest:
            self._longest, self._chosen["the longest text"] = length, numbered
        if num_objects > self._most:
            self._most, self._chosen["most objects"] = num_objects, numbered
        for rule in rules:
            self._chosen.setdefault(f"the first with {rule}", numbered)

    @property
    def rows(self) -> tuple[tuple[str, DataRow], ...]:
        """The chosen rows in the order of the data, each once, with all reasons why."""
        reasons: dict[int, list[str]] = {}
        for why, (number, _) in self._chosen.items():
            reasons.setdefault(number, []).append(why)
        chosen = dict(self._chosen.values())
        return tuple((", ".join(reasons[number]), chosen[number]) for number in sorted(reasons))


def show_examples(
    rows: Sequence[tuple[str, DataRow]], processor: Processor, *, text_length: int | None = None
) -> tuple[ShownExample, ...]:
    """The rows as one batch of training, in their order; a row that cannot be made into tokens is left out.

    Args:
        rows: with why each is shown.
        processor: of the model that shall be trained.
        text_length: see `TextLengths`.
    """
    # The same arrangement without the limit, which would refuse to show what does not fit.
    config = dataclasses.replace(
        processor.config, text=dataclasses.replace(processor.config.text, max_positions=_LONGEST)
    )
    unlimited = Processor(processor.tokenizer, config, processor.resize, separator=processor.separator)
    usable = [(why, row) for why, row in rows if _can_encode(row, unlimited)]
    if not usable:
        return ()
    side = config.vision.image_size
    blank = np.zeros((side, side, 3), dtype=np.uint8)  # tokens do not depend on pixels
    inputs = unlimited.encode(
        [
            Example(images=(blank,) * len(row.images), prefix=row.prefix, suffix=row.suffix)
            for _, row in usable
        ],
        train=True,
    )
    context = processor.config.text.max_positions
    shown = []
    for i, (why, row) in enumerate(usable):
        num_image_ids = len(row.images) * config.num_image_tokens
        limit = context if text_length is None else min(context, num_image_ids + text_length)
        shown.append(_shown(inputs, i, why, row, processor.tokenizer, limit))
    return tuple(shown)


def _can_encode(row: DataRow, processor: Processor) -> bool:
    try:
        processor.prompt_ids(row.prefix, len(row.images))
        processor.suffix_ids(row.suffix or "")
    except InputError:
        return False
    return bool(row.suffix)


def _shown(
    inputs: ModelInputs, i: int, why: str, row: DataRow, tokenizer: Tokenizer, limit: int
) -> ShownExample:
    ids = inputs.token_ids[i].tolist()
    assert inputs.loss_weights is not None, "encoded for training"
    has_loss = inputs.loss_weights[i].numpy() > 0
    roles = _roles(inputs, i, tokenizer)
    return ShownExample(
        why=why,
        place=Place(row.file, row.line),
        prefix=row.prefix,
        suffix=row.suffix or "",
        tokens=_runs(ids, roles, has_loss, tokenizer, limit),
        mask=_mask(inputs, i, roles, has_loss),
    )


def _roles(inputs: ModelInputs, i: int, tokenizer: Tokenizer) -> list[TokenRole]:
    ids, layout = inputs.token_ids[i].tolist(), inputs.layout
    is_valid, is_prefix = layout.is_valid[i].tolist(), layout.is_prefix[i].tolist()
    roles: list[TokenRole] = [
        "padding" if not valid else "image" if token == tokenizer.image_id else "prefix" if asks else "suffix"
        for token, valid, asks in zip(ids, is_valid, is_prefix, strict=True)
    ]
    end_of_prefix = sum(is_prefix)
    for at in range(end_of_prefix - len(tokenizer.newline_ids), end_of_prefix):
        roles[at] = "separator"
    roles[sum(is_valid) - 1] = "end"
    return roles


def _runs(
    ids: Sequence[int],
    roles: Sequence[TokenRole],
    has_loss: NDArray[np.bool_],
    tokenizer: Tokenizer,
    limit: int,
) -> tuple[ShownToken, ...]:
    tokens: list[ShownToken] = []
    for at, (token, role) in enumerate(zip(ids, roles, strict=True)):
        is_cut = at >= limit and role != "padding"
        last = tokens[-1] if tokens else None
        if last and role in ("image", "padding") and (last.role, last.is_cut) == (role, is_cut):
            tokens[-1] = dataclasses.replace(last, count=last.count + 1)
            continue
        text = _text_of(token, tokenizer)
        loss = bool(has_loss[at]) and not is_cut
        tokens.append(ShownToken(id=token, text=text, role=role, has_loss=loss, is_cut=is_cut))
    return tuple(tokens)


def _text_of(token: int, tokenizer: Tokenizer) -> str:
    names = {
        tokenizer.image_id: "<image>",
        tokenizer.bos_id: "<bos>",
        tokenizer.eos_id: "<eos>",
        tokenizer.pad_id: "<pad>",
    }
    value = tokenizer.byte_value(token)
    if value is not None:
        return f"<0x{value:02X}>"
    return names.get(token) or tokenizer.piece_text(token)


def _mask(inputs: ModelInputs, i: int, roles: Sequence[TokenRole], has_loss: NDArray[np.bool_]) -> ShownMask:
    at = _positions(roles)
    # Who sees whom depends on the order of the tokens alone, so leaving out some changes nothing for others.
    layout = PrefixLayout.from_segments(
        inputs.layout.segments[i : i + 1, at], inputs.layout.is_prefix[i : i + 1, at]
    )
    return ShownMask(
        roles=tuple(roles[place] for place in at),
        is_visible=layout.dense()[0, 0].numpy(),
        has_loss=has_loss[at],
    )


def _positions(roles: Sequence[TokenRole]) -> list[int]:
    """Some of the image and padding tokens, and all others unless they are too many for a picture."""
    by_role = {role: [at for at, found in enumerate(roles) if found == role] for role in TOKEN_ROLES}
    places: list[int] = []
    for role, found in by_role.items():
        most = _SHOWN_OF_A_RUN if role in ("image", "padding") else _SHOWN_TEXT
        step = max(1, -(-len(found) // most))
        places += found[::step]
    return sorted(places)
