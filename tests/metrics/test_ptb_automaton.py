import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.ptb_automaton import Automaton


def longest(patterns: list[str], text: str) -> tuple[int, str]:
    """The pattern, and what it takes from the begin of `text`."""
    automaton = Automaton([(pattern, "") for pattern in patterns], {}, {"vowel": ((97, 97), (101, 101))})
    number, end = automaton.longest(automaton.classes(text), 0, set())
    return number, text[:end]


@pytest.mark.parametrize(
    ("patterns", "text", "expected"),
    [
        (["ab|abc"], "abcd", (0, "abc")),
        (["ab", "abc"], "abcd", (1, "abc")),
        (["[a-c]+", "abc"], "abcd", (0, "abc")),  # the first of two equally long ones
        (["a(bcd)?"], "abc", (0, "a")),  # back to the last end
        (["a{2,3}"], "aaaa", (0, "aaa")),
        (["a{2}"], "aaa", (0, "aa")),
        (["[^a]*b?"], "xyb", (0, "xyb")),
        (["[^]"], "\n", (0, "\n")),
        (["[]-]"], "-", (-1, "")),  # "[]" is the empty set
        (["\\.\\[\\^[\\]a]"], ".[^]", (0, ".[^]")),
        (["ok"], "OK", (0, "OK")),
        (["[o]k"], "Ok", (-1, "")),
        (["k"], "\u212a", (0, "\u212a")),  # the sign of Kelvin
        (["x{vowel}+"], "xaeb", (0, "xae")),
        (["b"], "a", (-1, "")),
        (["a"], "", (-1, "")),
    ],
)
def test_the_longest_match_wins(patterns: list[str], text: str, expected: tuple[int, str]) -> None:
    assert longest(patterns, text) == expected


def test_names_stand_for_patterns_and_units_beyond_the_plane_take_two() -> None:
    automaton = Automaton([("{pair}{pair}", "")], {"pair": "[\ud83d].|[\ud83d][\ude00]"}, {})
    classes = automaton.classes("😀😀")
    assert len(classes) == 4
    assert automaton.longest(classes, 0, set()) == (0, 4)


ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", "(a|b)", "(ab|b)", "(b|)"])
PATTERNS = st.lists(
    st.tuples(ATOMS, st.sampled_from(["", "*", "+", "?", "{1,2}"])).map("".join), min_size=1, max_size=4
).map(lambda parts: "a" + "".join(parts))


@given(PATTERNS, st.text("abc", max_size=8))
def test_matches_are_those_of_regular_expressions(pattern: str, text: str) -> None:
    ends = [end for end in range(len(text) + 1) if re.fullmatch(pattern, text[:end], re.IGNORECASE)]
    number, taken = longest([pattern], text)
    assert (number, len(taken)) == ((0, max(ends)) if ends else (-1, 0))


@given(PATTERNS, PATTERNS, st.text("abc", max_size=8))
def test_what_must_follow_is_not_part_of_the_token(pattern: str, ahead: str, text: str) -> None:
    automaton = Automaton([(pattern, ahead)], {}, {})
    classes = automaton.classes(text)
    number, end = automaton.longest(classes, 0, set())
    if number < 0:
        return
    cut = automaton.token_end(0, classes, 0, end)
    assert re.fullmatch(pattern, text[:cut])
    assert re.fullmatch(ahead, text[cut:end])
    assert not any(
        re.fullmatch(pattern, text[:later]) and re.fullmatch(ahead, text[later:end])
        for later in range(cut + 1, end)
    )


def test_many_begins_without_an_end_take_linear_time() -> None:
    automaton = Automaton([("<a[^>]*>", ""), ("[^]", "")], {}, {})
    classes, hopeless, begin = automaton.classes("<a" * 20_000), set[tuple[int, int]](), 0
    started = time.process_time()
    while begin < len(classes):
        _, begin = automaton.longest(classes, begin, hopeless)
    assert time.process_time() - started < 5  # 0.2 s; without memory 40 000² / 4 steps take minutes
