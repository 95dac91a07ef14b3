"""Answers as the data sets of questions normalise them before they compare.

The rules are those of the VQA script (GT-Vision-Lab/VQA, `vqaEval.py`), and what later scripts made of them.
They are kept with their quirks, which move real scores:

- a punctuation mark becomes a space, but vanishes where it touches a space anywhere in the text, and all
  marks vanish where a comma stands between two digits;
- a period vanishes unless a digit follows ("3." is "3", "a.b" is "ab"), and the script takes a flag for a
  count, so that only the first 32 vanish;
- contractions are looked up in lower case, so that those with a capital ("Im") never apply.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

NUMBER_WORDS: Mapping[str, str] = {
    word: str(number)
    for number, words in enumerate(
        ["none zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
    for word in words.split()
}
"""Words that the VQA script writes as digits."""

PERIODS_REMOVED = 32
"""How many periods the VQA script removes at most: `re.UNICODE`, given where a count is expected."""

_CACHED = 1 << 17
_ARTICLES = frozenset({"a", "an", "the"})
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ANY_MARK = re.compile(f"[{re.escape(_MARKS)}]")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


def _contractions(words: str) -> dict[str, str]:
    """From each word as it is written wrongly to the right one."""
    return {word.replace("*", ""): word.replace("*", "'") for word in words.split()}


# `*` stands for an apostrophe that is missing in the text.
_WITHOUT_APOSTROPHES = _contractions(
    """ain*t aren*t can*t could*ve couldn*t didn*t doesn*t don*t hadn*t hasn*t haven*t he*d he*s how*d how*ll
    how*s isn*t it*d it*ll ma*am mightn*t might*ve mustn*t must*ve needn*t not*ve o*clock oughtn*t shan*t
    should*ve shouldn*t somebody*ll somebody*s someone*d someone*ll someone*s something*d something*ll that*s
    there*d there*re there*s they*d they*ll they*re they*ve *twas wasn*t we*ve weren*t what*ll what*re what*s
    what*ve when*s where*d where*s where*ve who*d who*ll who*s who*ve why*ll why*re why*s won*t would*ve
    wouldn*t y*all you*d you*ll you*re you*ve"""
)
_WITH_ONE_APOSTROPHE = _contractions(
    """couldn't*ve couldn*t've hadn*t've hadn't*ve he*d've he'd*ve it*d've it'd*ve mightn*t've mightn't*ve
    *ow's'at 'ow*s'at 'ow's*at she*d've she'd*ve shouldn*t've shouldn't*ve somebody*d've somebody'd*ve
    someone*d've someone'd*ve something*d've something'd*ve there*d've there'd*ve they*d've they'd*ve
    we*d've we'd*ve who*d've who'd*ve wouldn*t've wouldn't*ve y*all'll y'all*ll y*all'd've y'all*d've
    y'all'd*ve you*d've you'd*ve"""
)
CONTRACTIONS: Mapping[str, str] = {
    **_WITHOUT_APOSTROPHES,
    **_WITH_ONE_APOSTROPHE,
    "somebody'd": "somebodyd",  # the wrong way round in the script
}
"""Words that the VQA script writes with apostrophes, those that can occur after it has lowered the text."""

_VIZWIZ_APOSTROPHES = frozenset({"aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"})
_VIZWIZ_CONTRACTIONS: Mapping[str, str] = {
    **{
        wrong: right if wrong in _VIZWIZ_APOSTROPHES else right.replace("'", "`")
        for wrong, right in _WITHOUT_APOSTROPHES.items()
    },
    "couldn'tve": "couldn`t`ve",
    "hadn'tve": "hadn`t`ve",
}


def strip_answer(text: str) -> str:
    """The text on one line, without space around it; what the VQA script does to every answer."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str, *, max_periods: int = 0) -> str:
    """The text without punctuation marks (`processPunctuation` of the VQA script); apostrophes and more stay.

    Args:
        text: as it is; case stays.
        max_periods: how many periods vanish at most; 0 for all of them.
    """
    found = _ANY_MARK.findall(text)
    if found:
        all_vanish = _COMMA_IN_NUMBER.search(text) is not None
        text = text.translate(
            {
                ord(mark): "" if all_vanish or f"{mark} " in text or f" {mark}" in text else " "
                for mark in set(found)
            }
        )
    return _PERIOD.sub("", text, count=max_periods) if "." in text else text


def normalize_words(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """The text in lower case with digits for number words, no articles, and apostrophes in contractions.

    `processDigitArticle` of the VQA script. All white space becomes one space.
    """
    words = (NUMBER_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(contractions.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(maxsize=_CACHED)
def vqa_text(text: str, max_periods: int = 0) -> str:
    """The text as VQAv2 compares it (big_vision's `transfers/vqav2.py`; the VQA script with 32 periods)."""
    return normalize_words(strip_punctuation(strip_answer(text), max_periods=max_periods))


@lru_cache(maxsize=_CACHED)
def m4c_text(text: str) -> str:
    """The text as TextVQA's script compares it (`EvalAIAnswerProcessor` of facebookresearch/mmf).

    Before the rules of the VQA script it lowers the text, deletes commas and question marks, and puts a space
    before "'s".
    """
    lowered = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return vqa_text(lowered.strip(), PERIODS_REMOVED)


@lru_cache(maxsize=_CACHED)
def vizwiz_text(text: str) -> str:
    """The text of a prediction in VizWiz' script: as in the VQA script, with "`" for "'" in most words."""
    stripped = strip_punctuation(strip_answer(text), max_periods=PERIODS_REMOVED)
    return normalize_words(stripped, _VIZWIZ_CONTRACTIONS)
