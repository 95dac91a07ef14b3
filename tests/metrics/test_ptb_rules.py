import re

import pytest

from paligemma2.metrics.ptb_automaton import Automaton
from paligemma2.metrics.ptb_characters import character_sets
from paligemma2.metrics.ptb_rules import CONTRACTED, NAMES, RULES
from paligemma2.metrics.ptb_tokenizer import tokenize


def test_every_name_is_defined_and_used() -> None:
    patterns = [*NAMES.values(), *(rule.pattern for rule in RULES), *(rule.ahead for rule in RULES)]
    used = {name for pattern in patterns for name in re.findall(r"(?<!\\)\{([a-z][a-z ]*)\}", pattern)}
    assert used == set(NAMES) | set(character_sets())


@pytest.mark.parametrize("number", range(len(RULES)), ids=lambda number: RULES[number].pattern[:30])
def test_no_rule_matches_the_empty_text_or_gives_all_back(number: int) -> None:
    rule = RULES[number]
    automaton = Automaton([(rule.pattern, "")], NAMES, character_sets())
    shortest = next(length for length in range(1, 40) if _is_reachable(automaton, length))
    assert shortest > rule.given_back


def _is_reachable(automaton: Automaton, length: int) -> bool:
    """Whether some text of this length is a match."""
    states = [automaton.start]
    for _ in range(length):
        following = (automaton.step(state, number) for state in states for number in automaton.class_numbers)
        states = list({state.matched: state for state in following if state is not None}.values())
    return any(state.pattern >= 0 for state in states)


@pytest.mark.parametrize("word", sorted(CONTRACTED))
def test_a_contracted_word_is_two_in_any_case(word: str) -> None:
    for written in (word, word.upper(), f"{word} x", f"({word}."):
        assert word in tokenize([written])[0].replace(" ", "")
        assert word not in tokenize([written])[0]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("Inc. Co. Ltd. Corp. x", "inc. co. ltd. corp. x"),
        ("Ark. ark. Mass. mass. x", "ark. ark mass. mass x"),  # abbreviations only as names of states
        ("No. 5 no. Fig. 2 fig. a", "no. 5 no fig. 2 fig a"),  # these only before numbers
        ("pty. ltd pty. x", "pty. ltd pty. x"),
        ("Dr. Who vs. Gen. X", "dr. who vs. gen. x"),
        ("file.txt photo.doc my.note", "file.txt photo.doc my.note"),
        ("5.txt 5.note", "5.txt 5 note"),
        ("www.a-b.org/xy, http://a.b?c=d.", "www.a-b.org/xy http://a.b?c=d"),
        ("me@here.com @me #me #1", "me@here.com @me #me # 1"),
        (":) ;-P ^_^ :x", ":-rrb- ;-p ^_^ x"),
        ('<a href="x y">z</a> < b', '<a\u00a0href="x\u00a0y"> z </a> < b'),
        ("AT&amp;T R&D a&b", "at&t r&d a & b"),
        ("(555) 123-4567", "-lrb-555-rrb-\u00a0123-4567"),
        ("2 1/2 and 2/3/2014", "2\u00a01/2 and 2/3/2014"),
        ("Cap'n c'est O'Reilly d'Avignon", "cap'n c'est o'reilly d'avignon"),
        ("'twas 'tis 'em '90s", "'t was 't is 'em '90s"),
        ("a---b a----b a-----b", "a b a b a ----- b"),
        ("„low‚ «both»", "„ low ‚ both"),
    ],
)
def test_tokens_by_rule(caption: str, tokens: str) -> None:
    assert tokenize([caption]) == [tokens]
