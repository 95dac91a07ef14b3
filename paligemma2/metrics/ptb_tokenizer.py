"""Captions as scores compare them: Penn Treebank tokens in lower case, without punctuation.

This is what coco-caption (pycocoevalcap 1.2) gets from Stanford CoreNLP 3.4.1's `PTBTokenizer -preserveLines
-lowerCase`, without Java. It was made for English; scores of other languages use it all the same.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from paligemma2.metrics.ptb_automaton import Automaton
from paligemma2.metrics.ptb_characters import character_sets
from paligemma2.metrics.ptb_rules import CONTRACTED, NAMES, RULES, Action

# pycocoevalcap also lists -LRB-, -RRB-, -LCB- and -RCB-, but tokens are in lower case by then: brackets stay.
PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))

_NO_BREAK_SPACE = "\u00a0"
_AMPERSAND = re.compile("&amp;", re.IGNORECASE)
_QUOTES = str.maketrans(
    dict.fromkeys("\u0091\u2018\u201b\u2039", "`")
    | dict.fromkeys("\u0092\u2019\u203a", "'")
    | dict.fromkeys("\u0093\u201c\u00ab", "``")
    | dict.fromkeys('\u0094\u201d\u00bb"', "''")
)
_CURRENCY = str.maketrans({"\u00a2": "cents", "\u00a3": "#"} | dict.fromkeys("\u0080\u00a4\u20a0\u20ac", "$"))
_FRACTIONS = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_BRACKETS = {"(": "-LRB-", ")": "-RRB-", "{": "-LCB-", "}": "-RCB-", "[": "-LSB-", "]": "-RSB-"}
_PARENTHESES = str.maketrans({"(": "-LRB-", ")": "-RRB-", " ": _NO_BREAK_SPACE})

# Most of most captions, for which no rule looks further than the space; only to save time.
_PLAIN_WORDS = re.compile("(?:[A-Za-z]+ )+")

_WORD = re.compile(r"\w+(?:(?<=[^\W\d_])[-'.\"](?=[^\W\d_])\w+)*")

_WRITTEN: Mapping[Action, Callable[[str], str]] = {
    "keep": str,
    "without soft hyphens": lambda text: text.replace("\u00ad", "") or "-",
    "plain ampersands": lambda text: _AMPERSAND.sub("&", text),
    "solid": lambda text: text.replace(" ", _NO_BREAK_SPACE),
    "plain quotes": lambda text: text.replace("&apos;", "'").translate(_QUOTES),
    "plain currency": lambda text: text.translate(_CURRENCY),
    "plain fraction": lambda text: _FRACTIONS.get(text, text),
    "named bracket": _BRACKETS.__getitem__,
    "named parentheses": lambda text: text.translate(_PARENTHESES),
    "less than": lambda text: "<",
    "greater than": lambda text: ">",
    "dash": lambda text: "--" if 3 <= len(text) <= 4 else text,
}


def tokenize(captions: Sequence[str]) -> list[str]:
    """The tokens of each caption, with single spaces between them.

    The captions are read as the lines of one text, as coco-caption does, so a rule that looks ahead may look
    into the next caption: "vitamin C." ends with the token "c.", but with "c" where the next caption begins
    with "The". A line break within a caption counts as a space. Tokens may hold a no-break space ("3 1/2" is
    one token). What lies beyond U+FFFF, as emoji, vanishes.

    Args:
        captions: in any language.
    """
    text = "".join(caption.replace("\n", " ") + "\n" for caption in captions)
    return [" ".join(_words(line)) for line in _lines(text)]


def _words(line: Sequence[str]) -> Iterator[str]:
    """The tokens of a line that are no punctuation; white space at its end (of an odd address) is cut."""
    return (word for word in " ".join(line).rstrip().split(" ") if word not in PUNCTUATION)


def _lines(text: str) -> Iterator[list[str]]:
    line: list[str] = []
    for token in _tokens(text):
        *ended, rest = token.split("\n")  # also the value of an attribute in a tag may go over lines
        for part in ended:
            yield [*line, part] if part else line
            line = []
        if rest:
            line.append(rest)


def _tokens(text: str) -> Iterator[str]:
    """All tokens and line breaks."""
    automaton = _automaton()
    classes = automaton.classes(text)
    if len(classes) > len(text):  # some characters take two units
        text = "".join(map(chr, memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")))
    begin, hopeless = 0, set[tuple[int, int]]()
    while begin < len(classes):
        plain = _PLAIN_WORDS.match(text, begin)
        if plain and CONTRACTED.isdisjoint(words := plain[0].lower().split()):
            yield from words
            begin = plain.end()
            continue
        number, end = automaton.longest(classes, begin, hopeless)
        if number < 0:
            begin += 1
            continue
        rule = RULES[number]
        end = automaton.token_end(number, classes, begin, end) - rule.given_back
        token, begin = text[begin:end], end
        if rule.action == "new line":
            yield from "\n" * ("\n" in token)
        elif rule.action != "skip":
            yield _lower(_WRITTEN[rule.action](token))


def _lower(token: str) -> str:
    if not token.isascii():  # units of UTF-16 become characters again
        token = token.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _WORD.sub(_with_small_sigma, token).lower() if "Σ" in token else token.lower()


def _with_small_sigma(word: re.Match[str]) -> str:
    """A word with "ς" for a sigma that is its last letter; unlike Python, Java sees one word in "Α-Β"."""
    text = word[0]
    cased = [place for place, letter in enumerate(text) if letter.islower() or letter.isupper()]
    if len(cased) > 1 and text[cased[-1]] == "Σ":
        text = text[: cased[-1]] + "ς" + text[cased[-1] + 1 :]
    return text.replace("Σ", "σ")


@functools.cache
def _automaton() -> Automaton:
    return Automaton([(rule.pattern, rule.ahead) for rule in RULES], NAMES, character_sets())
