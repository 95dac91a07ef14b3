r"""The longest match among many patterns, in time linear in the text.

Patterns are those of a lexer generator: literal characters (in either case), `[…]` and `[^…]` (in the
given case), `(…)`, `|`, `*`, `+`, `?`, `{m,n}`, `\c` for a literal `c`, and `{name}` for another pattern.
Characters are units of UTF-16. The automaton is that of Glushkov, made deterministic state by state as
texts need it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from paligemma2.metrics.ptb_characters import Ranges, complement

_UNITS = 0x10000
_MEMORY_STRIDE = 64

# Characters outside of ASCII whose lower or upper case is a letter of ASCII.
_MORE_CASES = {"i": "İı", "k": "\u212a", "s": "ſ"}


@dataclass(frozen=True)
class _Set:
    ranges: Ranges


@dataclass(frozen=True)
class _Sequence:
    parts: tuple["_Node", ...]


@dataclass(frozen=True)
class _Choice:
    parts: tuple["_Node", ...]


@dataclass(frozen=True)
class _Repeat:
    part: "_Node"
    least: int
    most: int | None


_Node: TypeAlias = _Set | _Sequence | _Choice | _Repeat


@dataclass(slots=True, eq=False)
class State:
    """A state of the automaton: which positions of which patterns have just been matched.

    Attributes:
        matched: the positions, as bits.
        pattern: the first pattern that is complete here; -1 for none.
        following: the next state by class of unit; None where nothing goes on, absent where not yet made.
    """

    matched: int
    pattern: int
    following: dict[int, "State | None"] = field(default_factory=dict)


@dataclass(frozen=True)
class _Border:
    """First and last positions of a pattern, and of what must follow it, as bits."""

    first: int
    last: int
    ahead_first: int
    ahead_last: int


class Automaton:
    """Finds the longest match; of equally long ones, that of the first pattern."""

    def __init__(
        self, patterns: Sequence[tuple[str, str]], names: Mapping[str, str], sets: Mapping[str, Ranges]
    ) -> None:
        """Read the patterns.

        Args:
            patterns: in order of precedence, each with what must follow ("" for anything); none of them
                matches the empty text.
            names: patterns that `{name}` stands for.
            sets: sets of characters that `{name}` stands for.
        """
        parser = _Parser(names, sets)
        self._sets: list[Ranges] = []  # of each position
        self._follow: list[int] = []  # of each position: those that may come next, as bits
        self._pattern_of: dict[int, int] = {}  # of each last position
        self._borders: dict[int, _Border] = {}  # of each pattern that something must follow
        start = 0
        for number, (pattern, ahead) in enumerate(patterns):
            _, first, last = token = self._add(parser.parse(pattern))
            if ahead:
                follower = self._add(parser.parse(ahead))
                self._borders[number] = _Border(first, last, follower[1], follower[2])
                _, first, last = self._join(token, follower)
            start |= first
            self._pattern_of |= dict.fromkeys(_bits(last), number)
        self._last = sum(1 << position for position in self._pattern_of)
        self._follow.append(start)  # of the state before the first character, which has a position of its own
        self.class_of_unit, self._members = _classes(self._sets)
        self.start = State(1 << (len(self._follow) - 1), -1)
        self._states = {self.start.matched: self.start}

    def classes(self, text: str) -> bytes:
        """The class of each unit of `text`."""
        units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")
        return bytes(self.class_of_unit[units])

    def longest(self, classes: bytes, begin: int, hopeless: set[tuple[int, int]]) -> tuple[int, int]:
        """The pattern and the end of the longest match; -1 for none.

        Args:
            classes: of the whole text.
            begin: where to look.
            hopeless: places and states (here every 64th place) from which no match was found; grows. Without
                them a text of many beginnings and no end would take quadratic time.
        """
        state, found, end, seen = self.start, -1, begin, list[tuple[int, int]]()
        for place in range(begin, len(classes)):
            number = classes[place]
            following = state.following.get(number, state)
            if following is state and number not in state.following:
                following = self.step(state, number)
            if following is None:
                break
            state = following
            if state.pattern >= 0:
                found, end = state.pattern, place + 1
                seen.clear()
            elif not place % _MEMORY_STRIDE:
                if (place, state.matched) in hopeless:
                    break
                seen.append((place, state.matched))
        hopeless.update(seen)
        return found, end

    def token_end(self, pattern: int, classes: bytes, begin: int, end: int) -> int:
        """Where a match of `pattern` from `begin` to `end` stops and what must follow it begins."""
        border = self._borders.get(pattern)
        if border is None:
            return end
        possible, ends = border.first, list[int]()
        for place in range(begin, end):
            matched = possible & self._members[classes[place]]
            if matched & border.last:
                ends.append(place + 1)
            possible = self._after(matched)
        return next(place for place in reversed(ends) if self._follows(border, classes, place, end))

    def _follows(self, border: _Border, classes: bytes, begin: int, end: int) -> bool:
        possible, matched = border.ahead_first, 0
        for place in range(begin, end):
            matched = possible & self._members[classes[place]]
            if not matched:
                return False
            possible = self._after(matched)
        return bool(matched & border.ahead_last)

    def _after(self, matched: int) -> int:
        """The positions that may follow any of the `matched` ones."""
        return _union(self._follow[position] for position in _bits(matched))

    @property
    def class_numbers(self) -> range:
        """The classes of units that there are."""
        return range(len(self._members))

    def step(self, state: State, number: int) -> State | None:
        """The state after `state` and a unit of a class; None where no pattern goes on."""
        matched = self._after(state.matched) & self._members[number]
        following = self._states.get(matched) if matched else None
        if matched and following is None:
            complete = matched & self._last
            pattern = min((self._pattern_of[position] for position in _bits(complete)), default=-1)
            following = self._states[matched] = State(matched, pattern)
        state.following[number] = following
        return following

    def _add(self, node: _Node) -> tuple[bool, int, int]:
        """Whether `node` matches the empty text, and its first and last positions."""
        if isinstance(node, _Set):
            self._sets.append(node.ranges)
            self._follow.append(0)
            bit = 1 << (len(self._sets) - 1)
            return False, bit, bit
        if isinstance(node, _Choice):
            made = [self._add(part) for part in node.parts]
            empty = any(part[0] for part in made)
            return empty, _union(part[1] for part in made), _union(part[2] for part in made)
        if isinstance(node, _Repeat):
            return self._add_repeat(node)
        empty, first, last = True, 0, 0
        for part in node.parts:
            empty, first, last = self._join((empty, first, last), self._add(part))
        return empty, first, last

    def _join(self, left: tuple[bool, int, int], right: tuple[bool, int, int]) -> tuple[bool, int, int]:
        for position in _bits(left[2]):
            self._follow[position] |= right[1]
        first = left[1] | right[1] if left[0] else left[1]
        last = left[2] | right[2] if right[0] else right[2]
        return left[0] and right[0], first, last

    def _add_repeat(self, node: _Repeat) -> tuple[bool, int, int]:
        whole = (True, 0, 0)
        for count in range(node.most or max(node.least, 1)):
            empty, first, last = self._add(node.part)
            whole = self._join(whole, (empty or count >= node.least, first, last))
        if node.most is None:
            for position in _bits(last):
                self._follow[position] |= first
        return whole


class _Parser:
    """Reads patterns by recursive descent."""

    def __init__(self, names: Mapping[str, str], sets: Mapping[str, Ranges]) -> None:
        self._names, self._sets = names, sets
        self._read: dict[str, _Node] = {}

    def parse(self, pattern: str) -> _Node:
        node, end = self._choice(pattern, 0)
        assert end == len(pattern), (pattern, end)
        return node

    def _choice(self, pattern: str, at: int) -> tuple[_Node, int]:
        parts, sequence = list[_Node](), list[_Node]()
        while at < len(pattern) and pattern[at] != ")":
            if pattern[at] == "|":
                parts.append(_Sequence(tuple(sequence)))
                sequence, at = [], at + 1
            else:
                node, at = self._repeated(pattern, at)
                sequence.append(node)
        return _Choice((*parts, _Sequence(tuple(sequence)))), at

    def _repeated(self, pattern: str, at: int) -> tuple[_Node, int]:
        node, at = self._atom(pattern, at)
        while at < len(pattern):
            mark = pattern[at]
            if mark in "*+?":
                node = _Repeat(node, int(mark == "+"), 1 if mark == "?" else None)
                at += 1
            elif mark == "{" and pattern[at + 1].isdigit():
                end = pattern.index("}", at)
                least, _, most = pattern[at + 1 : end].partition(",")
                node, at = _Repeat(node, int(least), int(most or least)), end + 1
            else:
                break
        return node, at

    def _atom(self, pattern: str, at: int) -> tuple[_Node, int]:
        if pattern[at] == "(":
            node, at = self._choice(pattern, at + 1)
            return node, at + 1
        if pattern[at] == "[":
            return self._set(pattern, at + 1)
        if pattern[at] == "{":
            end = pattern.index("}", at)
            return self._named(pattern[at + 1 : end]), end + 1
        at += pattern[at] == "\\"
        letter = pattern[at]
        cases = sorted({letter, letter.lower(), letter.upper(), *_MORE_CASES.get(letter.lower(), "")})
        return _Set(tuple((ord(case), ord(case)) for case in cases)), at + 1

    def _set(self, pattern: str, at: int) -> tuple[_Node, int]:
        is_complement = pattern[at] == "^"
        at += is_complement
        ranges = []
        while pattern[at] != "]":
            at += pattern[at] == "\\"
            low = high = ord(pattern[at])
            if pattern[at + 1] == "-" and pattern[at + 2] != "]":
                at += 2
                at += pattern[at] == "\\"
                high = ord(pattern[at])
            ranges.append((low, high))
            at += 1
        return _Set(complement(tuple(ranges)) if is_complement else tuple(ranges)), at + 1

    def _named(self, name: str) -> _Node:
        if name in self._sets:
            return _Set(self._sets[name])
        if name not in self._read:
            self._read[name] = self.parse(self._names[name])
        return self._read[name]


def _classes(sets: Sequence[Ranges]) -> tuple[np.ndarray, list[int]]:
    """Units that are in the same sets are a class: the class of each unit, and the sets of each, as bits."""
    of_ranges: dict[Ranges, int] = {}
    for position, ranges in enumerate(sets):
        of_ranges[ranges] = of_ranges.get(ranges, 0) | 1 << position
    changes: dict[int, int] = {0: 0, _UNITS: 0}
    for ranges, positions in of_ranges.items():
        for begin, end in _merged(ranges):
            changes[begin] = changes.get(begin, 0) ^ positions
            changes[end] = changes.get(end, 0) ^ positions
    class_of_unit = np.zeros(_UNITS, np.uint8)
    numbers: dict[int, int] = {}
    members, places = 0, sorted(changes)
    for begin, end in pairwise(places):
        members ^= changes[begin]
        class_of_unit[begin:end] = numbers.setdefault(members, len(numbers))
    return class_of_unit, list(numbers)


def _merged(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """The ranges without overlaps, each from its first unit to the one after its last."""
    begin, end = 0, 0
    for low, high in sorted(ranges):
        if low > end:
            yield begin, end
            begin = low
        end = max(end, high + 1)
    yield begin, end


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _union(numbers: Iterator[int]) -> int:
    union = 0
    for number in numbers:
        union |= number
    return union
