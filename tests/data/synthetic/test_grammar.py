import pytest

from paligemma2.data.synthetic.grammar import (
    VOCABULARY,
    described,
    detection_text,
    listed,
    location_text,
    plural,
    segmentation_text,
    words_of,
)
from paligemma2.data.synthetic.world import SPLITS, pair_sample, scene_sample, segment_sample
from paligemma2.types import Box


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


def test_a_location_is_rounded_to_1024_bins_and_clipped():
    box = Box(y_min=-0.1, x_min=0.5, y_max=0.25, x_max=1.2)
    assert location_text(box) == "<loc0000><loc0512><loc0256><loc1023>"


def test_detections_are_joined_as_paligemma_writes_them():
    box = Box(y_min=0, x_min=0, y_max=1, x_max=1)
    one = "<loc0000><loc0000><loc1023><loc1023> star"
    assert detection_text([(box, "star"), (box, "star")]) == f"{one} ; {one}"


def test_mask_tokens_stand_between_box_and_label():
    box = Box(y_min=0, x_min=0, y_max=1, x_max=1)
    text = segmentation_text([(box, range(16), "star")])
    codes = "".join(f"<seg{code:03d}>" for code in range(16))
    assert text == f"<loc0000><loc0000><loc1023><loc1023>{codes} star"


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
