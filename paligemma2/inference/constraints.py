"""Grammars that an answer must keep to, token by token: `detect`, `segment`, and a closed list of answers.

At each step only tokens that can still lead to a whole answer are offered, so the distribution is the model's
own, renormalised over them. The tokens of an answer are exactly those that training on it would have, and the
tokens left are counted: an answer is always finished before `max_new_tokens` run out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.model.config import NUM_LOCATION_TOKENS
from paligemma2.processing.parsing import CODES_PER_MASK, parse_answer
from paligemma2.processing.tokenizer import LOCATION_TOKENS, Tokenizer

State: TypeAlias = tuple[int, ...]
"""Where an answer stands in its grammar; what the numbers mean is the grammar's own matter."""

Allowed: TypeAlias = slice | Tensor
"""Ids of tokens: a range of them, or int64 [tokens]. Known before the logits are, so an output layer that
computes only these rows could use it."""


class Constraint(Protocol):
    """A grammar as an automaton over tokens. It holds no state of a row, so rows and batches may share it."""

    @property
    def start(self) -> State:
        """The state before the first token."""

    @property
    def shortest(self) -> int:
        """Tokens of the shortest answer, the end token included."""

    def allowed(self, state: State, remaining: int) -> Allowed:
        """The tokens that may come next, at least one.

        Args:
            state: from `start` or `advance`.
            remaining: tokens that may still be made, this one included.
        """

    def advance(self, state: State, token: int) -> State:
        """The state behind an allowed token other than the end token."""


def detect_grammar(
    tokenizer: Tokenizer, labels: Sequence[str], *, max_objects: int | None = None
) -> Constraint:
    """Answers to `detect`: no object or several, each four location tokens and one of `labels`.

    The second corner of a box lies below and to the right of the first; objects are separated by " ; ".

    Args:
        tokenizer: of the model.
        labels: those of the prompt.
        max_objects: the most objects of an answer, or None for as many as `max_new_tokens` hold.

    Raises:
        InputError: a label is empty, has a `;` or holds location tokens; `max_objects` is below 1.
    """
    return _ObjectGrammar(tokenizer, labels, num_codes=0, max_objects=max_objects)


def segment_grammar(
    tokenizer: Tokenizer, labels: Sequence[str], *, max_objects: int | None = None
) -> Constraint:
    """Answers to `segment`: as `detect_grammar`, with 16 mask tokens between each box and its label."""
    return _ObjectGrammar(tokenizer, labels, num_codes=CODES_PER_MASK, max_objects=max_objects)


def answer_list(tokenizer: Tokenizer, answers: Iterable[str]) -> Constraint:
    """One of these answers and nothing else.

    Greedy decoding goes token by token and may turn into an unlikely answer that begins well; with as many
    beams as answers, the most likely one is found.

    Args:
        tokenizer: of the model.
        answers: as suffixes to train on: location and mask tokens in them are meant. "" is an answer too.

    Raises:
        InputError: there is no answer.
    """
    paths = [(*tokenizer.encode(text, allow_locations=True), tokenizer.eos_id) for text in answers]
    if not paths:
        raise InputError("the list of answers is empty", hint="give at least one answer")
    return _AnswerList(paths)


class Progress:
    """Where each row of a batch stands in its grammar.

    Args:
        constraints: for each row its grammar, or None where every token is allowed.
        max_new_tokens: how many tokens may be made.
        end: the id of the end token.

    Raises:
        InputError: no answer of a grammar fits into `max_new_tokens`.
    """

    def __init__(self, constraints: Sequence[Constraint | None], max_new_tokens: int, end: int) -> None:
        longest = max((each.shortest for each in constraints if each is not None), default=0)
        if longest > max_new_tokens:
            raise InputError(
                f"the shortest answer allowed has {longest} tokens, max_new_tokens is {max_new_tokens}",
                hint=f"give max_new_tokens={longest} or more",
            )
        self._rows = [None if each is None else (each, each.start) for each in constraints]
        self._remaining = max_new_tokens
        self._end = end

    def restrict(self, logits: Tensor) -> Tensor:
        """`logits` [rows, vocab] with -inf at every token that may not come next."""
        if not any(self._rows):
            return logits
        restricted = torch.full_like(logits, -torch.inf)
        for source, target, row in zip(logits, restricted, self._rows, strict=True):
            if row is None:
                target.copy_(source)
                continue
            constraint, state = row
            allowed = constraint.allowed(state, self._remaining)
            if isinstance(allowed, slice):
                target[allowed] = source[allowed]
            else:
                ids = allowed.to(logits.device)
                target.index_copy_(0, ids, source.index_select(0, ids))
        return restricted

    def advance(self, tokens: Sequence[int | None], sources: Sequence[int] | None = None) -> None:
        """Go one token on; a row that ended, or whose token is None, is free from then on.

        Args:
            tokens: for each row the token chosen among the allowed ones.
            sources: for each row the row that it goes on from (beams change places), itself by default.
        """
        before = self._rows if sources is None else [self._rows[source] for source in sources]
        self._rows = [
            None
            if row is None or token is None or token == self._end
            else (row[0], row[0].advance(row[1], token))
            for row, token in zip(before, tokens, strict=True)
        ]
        self._remaining -= 1


class _Trie:
    """Token sequences, joined where they begin alike. A node is an int; the root is 0.

    Args:
        paths: each sequence, none the beginning of another, and how many tokens must follow it at least.
    """

    def __init__(self, paths: Mapping[tuple[int, ...], int]) -> None:
        self._children: list[dict[int, int]] = [{}]
        leaves = {self._insert(path): following for path, following in paths.items()}
        # A child is made after its parent, so that backwards the children come first.
        self._needed = [leaves.get(node, 0) for node in range(len(self._children))]
        for node in reversed(range(len(self._children))):
            if self._children[node]:
                self._needed[node] = 1 + min(self._needed[child] for child in self._children[node].values())
        self._tokens = [torch.tensor(list(children), dtype=torch.long) for children in self._children]
        self._enough = [
            1 + max((self._needed[child] for child in children.values()), default=0)
            for children in self._children
        ]

    def _insert(self, path: tuple[int, ...]) -> int:
        node = 0
        for token in path:
            if token not in self._children[node]:
                self._children[node][token] = len(self._children)
                self._children.append({})
            node = self._children[node][token]
        return node

    @property
    def shortest(self) -> int:
        """Tokens of the shortest sequence with what must follow it."""
        return self._needed[0]

    def allowed(self, node: int, remaining: int) -> Tensor:
        """The next tokens from which the end is near enough, int64 [tokens]."""
        if remaining >= self._enough[node]:
            return self._tokens[node]
        near = [token for token, child in self._children[node].items() if self._needed[child] < remaining]
        return torch.tensor(near, dtype=torch.long)

    def child(self, node: int, token: int) -> int:
        """The node behind `token`."""
        return self._children[node][token]

    def is_leaf(self, node: int) -> bool:
        """Whether a sequence is complete here."""
        return not self._children[node]


class _AnswerList:
    """A state is (node,)."""

    def __init__(self, paths: Sequence[tuple[int, ...]]) -> None:
        self._trie = _Trie(dict.fromkeys(paths, 0))
        self.start: State = (0,)
        self.shortest = self._trie.shortest

    def allowed(self, state: State, remaining: int) -> Tensor:
        return self._trie.allowed(state[0], remaining)

    def advance(self, state: State, token: int) -> State:
        return (self._trie.child(state[0], token),)


class _ObjectGrammar:
    """A state is (place, y_min, x_min, objects begun before).

    Places up to 3 are corners, those up to `_label` mask tokens, and the nodes of the labels follow.
    """

    def __init__(
        self, tokenizer: Tokenizer, labels: Sequence[str], *, num_codes: int, max_objects: int | None
    ) -> None:
        if max_objects is not None and max_objects < 1:
            raise InputError(f"max_objects is {max_objects}", hint="give at least 1, or None for no limit")
        between, last = _label_paths(tokenizer, labels)
        self._label = 4 + num_codes
        self._last_object = None if max_objects is None else max_objects - 1
        self._last = _Trie(dict.fromkeys(last, 0))
        one_object = self._label + self._last.shortest
        self._any = _Trie(dict.fromkeys(last, 0) | dict.fromkeys(between, one_object))
        self._one_object = one_object
        self._first_location = tokenizer.location_ids.start
        self._codes = slice(tokenizer.mask_ids.start, tokenizer.mask_ids.stop)
        # A first corner at the far edge would leave no room for the second.
        self._first_corner = slice(self._first_location, tokenizer.location_ids.stop - 1)
        self._only_end = torch.tensor([tokenizer.eos_id])
        self._begin = torch.tensor([tokenizer.eos_id, *tokenizer.location_ids[:-1]])
        self.start: State = (0, 0, 0, 0)
        self.shortest = 1

    def allowed(self, state: State, remaining: int) -> Allowed:
        place, y_min, x_min, objects = state
        if state == self.start:
            return self._begin if remaining >= self._one_object else self._only_end
        if place < 2:
            return self._first_corner
        if place < 4:
            above = (y_min if place == 2 else x_min) + 1
            return slice(self._first_location + above, self._first_location + NUM_LOCATION_TOKENS)
        if place < self._label:
            return self._codes
        return self._trie(objects).allowed(place - self._label, remaining)

    def advance(self, state: State, token: int) -> State:
        place, y_min, x_min, objects = state
        if place < self._label:
            y_min = token - self._first_location if place == 0 else y_min
            x_min = token - self._first_location if place == 1 else x_min
            return place + 1, y_min, x_min, objects
        trie = self._trie(objects)
        node = trie.child(place - self._label, token)
        return (0, 0, 0, objects + 1) if trie.is_leaf(node) else (self._label + node, 0, 0, objects)

    def _trie(self, objects: int) -> _Trie:
        return self._last if objects == self._last_object else self._any


def _label_paths(
    tokenizer: Tokenizer, labels: Sequence[str]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The tokens behind a box: of each label with the separator, and of each with the end token."""
    if not labels:
        raise InputError("no label to look for", hint="name at least one thing")
    between, last = [], []
    for label in labels:
        text = f" {_readable(label)}"
        # As in an answer to train on: pieces may join across the label, the separator and the spaces.
        corner = LOCATION_TOKENS[0]
        ids = tokenizer.encode(f"{corner}{text} ; {corner}{text}", allow_locations=True)
        cut = ids.index(tokenizer.location_ids.start, 1)
        between.append(tuple(ids[1:cut]))
        last.append((*ids[cut + 1 :], tokenizer.eos_id))
    return between, last


def _readable(label: str) -> str:
    """The label as the parser reads it behind a box."""
    read = parse_answer(f"{LOCATION_TOKENS[0] * 2}{LOCATION_TOKENS[-1] * 2} {label}")
    if read.problems or [detection.label for detection in read.detections] != [label.strip()]:
        raise InputError(
            f"{label!r} is not a label: an answer with it could not be read",
            hint="give plain words, each thing by itself, without ';' and location or mask tokens",
        )
    return label.strip()
