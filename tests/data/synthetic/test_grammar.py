import pytest

from paligemma2.data.synthetic.grammar import (
    VOCABULARY,
    described,
    listed,
    plural,
    words_of,
)
from paligemma2.data.synthetic.world import SPLITS, pair_sample, scene_sample, segment_sample


def test_the_vocabulary_holds_every_word_that_is_used_and_is_sorted():
    used = set()
    for split in SPLITS:
        for index in range(130):
            for sample in (
                scene_sample(split, index, size=16, max_objects=4),
                pair_sample(split, index, size=16),
                segment_sample(split, index, size=16),
            ):
                used |= {word for row in sample.rows for word in words_of(f"{row.prefix} {row.suffix}")}
    assert used <= set(VOCABULARY)
    assert set(VOCABULARY) - used <= {"ocr", "say"}
    assert list(VOCABULARY) == sorted(set(VOCABULARY))
    assert all(word == word.lower() for word in VOCABULARY)


@pytest.mark.parametrize(
    ("parts", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists_read_as_english(parts, text):
    assert listed(parts) == text


def test_articles_and_plurals_read_as_english():
    assert described("orange", "star") == "an orange star"
    assert described("red", "star") == "a red star"
    assert (plural("cross"), plural("heart")) == ("crosses", "hearts")


def test_words_of_a_text_leave_out_the_locations():
    assert words_of("<loc0001><loc0002><loc0003><loc0004> red star ; 2?") == ["red", "star", ";", "2", "?"]
