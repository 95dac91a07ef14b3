"""Continuous batching: rows join and leave between steps, each with its own picture, prompt and settings.

A prefix is read layer by layer (its tokens all see each other, so it cannot be cut by tokens as a causal
prompt can), a few layers between two steps of the rows that are already writing. A row that joins adds its
own reading and nothing is computed again for the others.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.inference.constraints import Constraint, Progress
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.reading import check_adapters, check_one_each, check_room, read_prompts
from paligemma2.inference.sampling import choose, random_streams
from paligemma2.inference.settings import check_decoding
from paligemma2.model.cache import KVCache
from paligemma2.model.lora import using_adapters
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import Piecewise, finish
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding


class Token(NamedTuple):
    """A decoded token, and the natural logarithms of its probability and of all location tokens' together.

    Probabilities are the model's own (capped logits, no temperature, no constraint) among the tokens that
    may be produced: `<image>` and the filler rows behind it have none.
    """

    id: int
    log_prob: float
    location_log_prob: float
    top: tuple[tuple[int, float], ...] = ()
    """As many of the most likely tokens as were asked for, the best first, with their log-probabilities."""


class Written(NamedTuple):
    """What a step added: the ticket of the row, its new token, and whether the row has ended with it."""

    ticket: int
    token: Token
    is_last: bool


class Engine:
    """Rows that are decoded side by side; see the top of this file.

    Args:
        model: in evaluation mode.
        images: encodes pictures; may be shared with other engines of the same model.
        rows: the most rows at a time; the others wait.
        capacity: the most tokens of a row, prompt and answer together; memory is reserved for all of them.
        layers_per_step: how many layers of a waiting prompt are read between two steps of the others.
        adapter: of the model, for rows that name none.
    """

    def __init__(
        self,
        model: PaliGemma2Model,
        images: ImageTokens | None = None,
        *,
        rows: int,
        capacity: int,
        layers_per_step: int = 4,
        adapter: str | None = None,
    ) -> None:
        for name, value in (("rows", rows), ("capacity", capacity), ("layers_per_step", layers_per_step)):
            if value < 1:
                raise InputError(f"{name} is {value}", hint="give at least 1")
        self._model = model
        self._images = images or ImageTokens(model)
        self._max_rows = rows
        self._capacity = capacity
        self._layers_per_step = layers_per_step
        self._adapter = adapter
        self._cache: KVCache | None = None
        self._rows: list[_Row] = []  # in the order of the cache
        self._waiting: deque[_Group] = deque()
        self._reading: _Reading | None = None
        self._num_tickets = 0

    @property
    def is_idle(self) -> bool:
        """Whether no row is writing, reading or waiting."""
        return not (self._rows or self._waiting or self._reading)

    def add(
        self,
        inputs: ModelInputs,
        decodings: Sequence[Decoding],
        constraints: Sequence[Constraint | None] | None = None,
        adapters: Sequence[str | None] | None = None,
    ) -> list[int]:
        """Let some prompts join when there is room for all of them; equal prompts are read once.

        Args:
            inputs: prompts padded on the left, on the CPU.
            decodings: for each prompt how its tokens are chosen: "greedy" or "sample", without `stop`
                (call `cancel` instead) and `best_of`.
            constraints: for each prompt the grammar that its answer must keep to, or None.
            adapters: for each prompt the name of the adapter that it goes through, or None for the engine's.

        Returns:
            A ticket for each prompt.

        Raises:
            InputError: there are more prompts than rows, one does not fit with its `max_new_tokens`, a
                grammar has no answer short enough, a setting makes no sense or is not for rows that go token
                by token, the model has no such adapter, or there is not one of each per prompt.
        """
        check_one_each("decodings", decodings, inputs)
        grammars = [None] * len(decodings) if constraints is None else constraints
        check_one_each("constraints", grammars, inputs)
        given = [None] * len(decodings) if adapters is None else adapters
        names = [self._adapter if name is None else name for name in given]
        check_adapters(self._model, names, inputs)
        for each in decodings:
            check_decoding(each)
        if any(each.method == "beam" or each.best_of > 1 or each.stop for each in decodings):
            raise InputError(
                "an engine has no beams, no best_of and no stop texts",
                hint="use `generate`, or call `cancel` where a text is to stop",
            )
        count, seq = inputs.token_ids.shape
        longest = seq + max(decoding.max_new_tokens for decoding in decodings)
        if count > self._max_rows or longest > self._capacity:
            raise InputError(
                f"{count} prompts of up to {longest} tokens do not fit into {self._max_rows} rows of "
                f"{self._capacity}",
                hint="add fewer at a time, or make an engine with more rows or capacity",
            )
        check_room(self._model, inputs, longest - seq)
        end = self._model.config.eos_token_id
        seeds = [each.seed if each.method == "sample" else None for each in decodings]
        streams = random_streams(inputs, self._model.config, seeds)
        rows = [
            _Row(ticket, decoding, grammar, Progress([grammar], decoding.max_new_tokens, end), stream, name)
            for ticket, (decoding, grammar, stream, name) in enumerate(
                zip(decodings, grammars, streams, names, strict=True), start=self._num_tickets
            )
        ]
        self._num_tickets += count
        self._waiting.append(_Group(inputs, rows))
        return [row.ticket for row in rows]

    @torch.inference_mode()
    def cancel(self, ticket: int) -> None:
        """Take a row out, wherever it is; nothing happens if it has ended."""
        for place, row in enumerate(self._rows):
            if row.ticket == ticket:
                self._drop(place)
        groups = [*self._waiting, *([self._reading.group] if self._reading else [])]
        for group in groups:
            for row in group.rows:
                row.is_cancelled |= row.ticket == ticket
        self._waiting = deque(group for group in self._waiting if not group.is_cancelled)
        if self._reading and self._reading.group.is_cancelled:
            self._reading = None

    @torch.inference_mode()
    def step(self) -> list[Written]:
        """One more token for every row that is writing, and some layers of a prompt that waits.

        Raises:
            torch.OutOfMemoryError: the device is full. Prompts that were being read are taken out; rows that
                were writing can go on.
        """
        self._read_on()  # first: if it fails, nothing has happened to the rows that write
        logits = []
        if self._rows:
            assert self._cache is not None
            chosen = torch.tensor([row.chosen for row in self._rows], device=self._model.device)
            with using_adapters([row.adapter for row in self._rows], self._model.device):
                logits.append(self._model.step(chosen, self._cache))
        if self._reading and self._reading.result:
            logits.append(self._join(self._reading.group, *self._reading.result))
            self._reading = None
        if not logits:
            return []
        offered = torch.cat(logits)[:, : self._model.config.num_text_rows]
        return self._take(offered)

    def _read_on(self) -> None:
        """Some layers of a prompt, or all of it where no row has to wait for that."""
        reading, self._reading = self._reading, None
        if reading is None:
            if not self._waiting or len(self._rows) + len(self._waiting[0].rows) > self._max_rows:
                return
            group = self._waiting.popleft()
            names = [row.adapter for row in group.rows]
            work = read_prompts(self._model, self._images, group.inputs, self._room(group), names)
            reading = _Reading(group, work)
        if reading.result is None:
            reading.result = _do(reading.work, self._layers_per_step if self._rows else None)
        self._reading = reading

    def _room(self, group: "_Group") -> int:
        """Slots to reserve behind the prompts: all where they fill the engine, so that nothing is copied."""
        fills = not self._rows and len(group.rows) == self._max_rows
        return self._capacity - group.inputs.token_ids.shape[1] if fills else 0

    def _join(self, group: "_Group", logits: Tensor, cache: KVCache) -> Tensor:
        alive = [place for place, row in enumerate(group.rows) if not row.is_cancelled]
        if not self._rows and len(alive) == self._max_rows and cache.capacity == self._capacity:
            self._cache = cache
        else:
            if self._cache is None:
                self._cache = KVCache.reserve(
                    self._model.language_model.config,
                    self._max_rows,
                    self._capacity,
                    dtype=cache.keys.dtype,
                    device=cache.keys.device,
                )
            for place in alive:
                self._cache.take(cache, place)
        self._rows += [group.rows[place] for place in alive]
        return logits[alive]

    def _take(self, logits: Tensor) -> list[Written]:
        """Choose a token of each row; rows that end with it leave."""
        restricted = logits
        if any(row.constraint is not None for row in self._rows):
            parts = zip(self._rows, torch.split(logits, 1), strict=True)
            restricted = torch.cat([row.progress.restrict(part) for row, part in parts])
        decodings = [row.decoding for row in self._rows]
        chosen = choose(restricted, decodings, [row.stream for row in self._rows])
        tokens = _tokens(logits, chosen, decodings, self._model.config.location_rows)
        written = [
            Written(row.ticket, token, row.take(token.id, self._model.config.eos_token_id))
            for row, token in zip(self._rows, tokens, strict=True)
        ]
        for place in reversed(range(len(written))):
            if written[place].is_last:
                self._drop(place)
        return written

    def _drop(self, place: int) -> None:
        assert self._cache is not None
        self._cache.drop(place)
        last = self._rows.pop()
        if place < len(self._rows):
            self._rows[place] = last


@dataclass(eq=False)
class _Row:
    ticket: int
    decoding: Decoding
    constraint: Constraint | None
    progress: Progress
    stream: random.Random | None
    adapter: str | None
    made: int = 0
    chosen: int = 0
    is_cancelled: bool = False

    def take(self, token: int, end: int) -> bool:
        """Go one token on; whether it is the last."""
        self.made += 1
        self.chosen = token
        self.progress.advance([token])
        return token == end or self.made == self.decoding.max_new_tokens


@dataclass(frozen=True, eq=False)
class _Group:
    """Prompts that are read together."""

    inputs: ModelInputs
    rows: list[_Row]

    @property
    def is_cancelled(self) -> bool:
        return all(row.is_cancelled for row in self.rows)


@dataclass(eq=False)
class _Reading:
    """Prompts that are being read, and what came of it."""

    group: _Group
    work: Piecewise[tuple[Tensor, KVCache]]
    result: tuple[Tensor, KVCache] | None = None


def _do(work: Piecewise[tuple[Tensor, KVCache]], pieces: int | None) -> tuple[Tensor, KVCache] | None:
    """The result of the work if it ends within so many pieces (None for all)."""
    if pieces is None:
        return finish(work)
    try:
        for _ in range(pieces):
            next(work)
    except StopIteration as stop:
        result: tuple[Tensor, KVCache] = stop.value
        return result
    return None


def _tokens(
    logits: Tensor, chosen: Tensor, decodings: Sequence[Decoding], location_rows: slice
) -> list[Token]:
    total = logits.logsumexp(dim=-1)
    log_probs = logits.gather(1, chosen[:, None])[:, 0] - total
    locations = logits[:, location_rows].logsumexp(dim=-1) - total
    columns = (chosen.tolist(), log_probs.tolist(), locations.tolist())
    tokens = [Token(*row) for row in zip(*columns, strict=True)]
    most = max(decoding.top_log_probs for decoding in decodings)
    if not most:
        return tokens
    best = logits.topk(min(most, logits.shape[1]), dim=-1)
    tops = zip(best.indices.tolist(), (best.values - total[:, None]).tolist(), strict=True)
    return [
        token._replace(top=tuple(zip(ids, values, strict=True))[: decoding.top_log_probs])
        for token, (ids, values), decoding in zip(tokens, tops, decodings, strict=True)
    ]
