import importlib
import random
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.ptb_tokenizer import PUNCTUATION, tokenize

TRICKY = st.lists(
    st.sampled_from(
        [
            "can't",
            "U.S.",
            "C.",
            "The ",
            "etc.",
            "1/2",
            "'",
            '"',
            "``",
            "-",
            "...",
            "<a b='",
            ">",
            "&amp;",
            "@",
            "://",
            "😀",
            "\u00ad",
            "\u200b",
            "\n",
            "\r",
            "\u0085",
            "\u2028",
            "Σ",
            "İ",
            "。",
            "ไทย",
            "\ud83d",
            "(",
            "]",
            "#",
            " ",
        ]
    )
).map("".join)
CAPTIONS = st.one_of(st.text(), TRICKY, st.characters().map(lambda letter: letter * 3))


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's dog isn't happy.", "a man 's dog is n't happy"),
        ("A dog (left), a cat & a bird", "a dog -lrb- left -rrb- a cat & a bird"),
        ("a  dog\tran\nhome", "a dog ran home"),
        ("don’t “quote” it…", "do n't quote it"),
        ("Wait?! No!!", "wait ?! no !!"),
        ("", ""),
        ("...", ""),
        ("two 🐶 dogs", "two dogs"),
        ("一只猫坐在桌子上。", "一只猫坐在桌子上 。"),
        ("ΟΔΟΣ ΟΔΟΣ-Α", "οδος οδοσ-α"),
        ("½ ⅛ £5 €5 5¢", "1/2 ⅛ # 5 $ 5 5 cents"),
        ("soft\u00adhyphen \u00ad", "softhyphen"),
    ],
)
def test_tokens_of_captions(caption: str, tokens: str) -> None:
    assert tokenize([caption]) == [tokens]


def test_a_caption_may_look_into_the_next_one() -> None:
    assert tokenize(["vitamin C.", "the end"]) == ["vitamin c.", "the end"]
    assert tokenize(["vitamin C.", "The end"]) == ["vitamin c", "the end"]


@given(st.lists(CAPTIONS, max_size=4))
def test_any_captions_give_as_many_lines_without_punctuation(captions: list[str]) -> None:
    lines = tokenize(captions)
    assert len(lines) == len(captions)
    for line in lines:
        assert line == "" or not PUNCTUATION & set(line.split(" "))
        assert "" not in line.split(" ") or line == ""


WORDS = st.text("abcdefgh", min_size=1, max_size=9)


@given(st.lists(WORDS, max_size=9))
def test_plain_words_stay_as_they_are(words: list[str]) -> None:
    assert tokenize([" ".join(words)]) == [" ".join(words)]
    assert tokenize([" ".join(words).upper() + " ."]) == [" ".join(words)]
    assert tokenize([",".join(words)]) == [
        " ".join(words)
    ]  # through all rules, not only those of plain words


@pytest.mark.parametrize(
    "part",
    [
        "<a ",
        "<a b='",
        "a.",
        "http://a",
        "1,",
        "a-",
        ". ",
        "etc. ",
        "a'",
        "&e",
        "x@",
        "I.   ",
        "a",
        "(5",
        "a! ",
    ],
)
def test_long_captions_take_linear_time(part: str) -> None:
    started = time.process_time()
    tokenize([part * 20_000 + "'s"])
    assert time.process_time() - started < 10  # 0.1 to 1 s here; in quadratic time it would be minutes


ODD = """
gonna cannot 'tis can't don’t n't 's U.S. C. a.m. etc. Co. Ltd Mr. No. fig. 5 1/2 ½ 3.14
1,000 10:30 $5 €50 % 50% 2nd 12/25/2014 555-1234 (555)123-4567 #1 #tag @me me@here.com
http://a.b/c?d=e www.a.org/xy file.txt c++ :) ^_^ <b> <a b='c'> <a b=' &amp; &lt; &quot; é
AT&T R&B t-shirt a/b/c/d o'clock 'em '90s y'all l'homme O'Reilly -- --- ... .... . , ; : ? !
( ) [ ] { } < > << " '' `` ` ' “ ” ‘ ’ « » – — … * _ __ ~ ^ | \\ / = == + & @ # $ ° ² ™ ♥ 😀
ñ ß İ 日本語 。 ， ไทย العربية ، हिन्दी । தமிழ் ಕನ್ನಡ dog The A He it x The-end v1.0 a.b.c
"""


def test_odd_captions_have_the_tokens_of_the_original() -> None:
    if shutil.which("java") is None:
        pytest.skip("the original tokenizer is a Java program, and there is no `java`")
    try:
        original = importlib.import_module("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    except ModuleNotFoundError:
        pytest.skip("pycocoevalcap is not installed (extra `captions`)")
    rng, odd = random.Random(0), ODD.split()
    spaces = ["", "", " ", "  ", "\t", "\u00a0", "\u200b"]
    captions = [
        "".join(rng.choice(odd) + rng.choice(spaces) for _ in range(rng.randint(1, 8))) for _ in range(5000)
    ]
    captions.append("the end")  # the original reads the end of the file otherwise than the end of a line
    lines = original.tokenize({number: [{"caption": text}] for number, text in enumerate(captions)})
    assert tokenize(captions) == [line for [line] in lines.values()]
