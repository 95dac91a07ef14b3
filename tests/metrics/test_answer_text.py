import pytest
from hypothesis import given

from paligemma2.metrics.answer_text import (
    CONTRACTIONS,
    NUMBER_WORDS,
    PERIODS_REMOVED,
    m4c_text,
    normalize_words,
    strip_answer,
    strip_punctuation,
    vizwiz_text,
    vqa_text,
)
from tests.metric_properties import TEXTS


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("red,white", "red white"),  # a mark between letters becomes a space
        ("red , white?!", "red  white  "),  # one that touches a space vanishes; "?" and "!" do not touch one
        ("1,000 black/white", "1000 blackwhite"),  # a comma between digits makes every mark vanish
        ("٣,٤", "٣٤"),  # digits of any script
        ("3.", "3"),
        ("3.14 a.b a.1", "3.14 ab a.1"),
        ("don't: $5 #1 50%", "don't: $5 #1 50%"),
        ("", ""),
    ],
)
def test_punctuation_goes_as_in_the_vqa_script(text: str, wanted: str) -> None:
    assert strip_punctuation(text) == wanted


def test_the_script_leaves_periods_after_the_first_32() -> None:
    assert strip_punctuation("." * 40, max_periods=PERIODS_REMOVED) == "." * 8
    assert strip_punctuation("." * 40) == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Two  dogs\n", "2 dogs"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("Im dont", "im don't"),  # contractions with a capital never apply
        ("somebody'd", "somebodyd"),
        ("a an the", ""),
        ("zero-width\u200bspace\u00a0x", "zero-width\u200bspace x"),  # a hard space is white, this one is not
    ],
)
def test_words_are_normalised(text: str, wanted: str) -> None:
    assert normalize_words(text) == wanted


def test_the_scripts_differ() -> None:
    assert vqa_text("what's 1,5?") == "what's 15"
    assert m4c_text("what's 1,5?") == "what 's 15"
    assert vizwiz_text("dont, aint") == "don`t ain't"


def test_contractions_only_put_apostrophes_in() -> None:
    assert {
        wrong for wrong, right in CONTRACTIONS.items() if wrong.replace("'", "") != right.replace("'", "")
    } == set()
    assert all(wrong == wrong.lower() for wrong in CONTRACTIONS)
    assert set(CONTRACTIONS).isdisjoint(NUMBER_WORDS)


@given(TEXTS)
def test_white_space_around_never_matters(text: str) -> None:
    around = f" {text}\n\t"
    assert strip_answer(around) == strip_answer(text)
    assert vqa_text(around) == vqa_text(text)
    assert m4c_text(around) == m4c_text(text)


@given(TEXTS)
def test_normalised_words_stay_as_they_are(text: str) -> None:
    once = normalize_words(text)
    assert normalize_words(once) == once
