import random

import numpy as np
import pytest

from paligemma2.data.miniatures import scene_contents
from paligemma2.data.miniatures.content import SIDE
from paligemma2.data.miniatures.words import NAMES
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.targets import picture_mask


def drawn(kind, count=12):
    draw = getattr(scene_contents, kind)
    return [draw(random.Random(f"test {number}"), number) for number in range(1, count + 1)]


@pytest.mark.parametrize("kind", ["question", "yes_no", "count", "choice", "question_languages"])
def test_questions_have_answers(kind):
    for content in drawn(kind):
        assert content.asked
        assert content.pictures[0].shape == (SIDE, SIDE, 3)
        for asked in content.asked:
            assert asked.question
            assert asked.answer
            assert not asked.question.startswith("answer")


def test_yes_and_no_are_equally_often_right():
    answers = [asked.answer for content in drawn("yes_no") for asked in content.asked]
    assert answers.count("yes") == answers.count("no") == 6


def test_counts_are_digits_that_agree_with_the_caption():
    for content in drawn("count", 30):
        for asked in content.asked:
            assert asked.answer.isdigit()
            if asked.kind == "count_all":
                assert int(asked.answer) == len(content.objects)


def test_one_of_four_different_choices_is_right():
    for content in drawn("choice"):
        for asked in content.asked:
            assert len(set(asked.choices)) == 4
            assert asked.answer in asked.choices
    places = [asked.choices.index(asked.answer) for content in drawn("choice", 40) for asked in content.asked]
    assert set(places) == {0, 1, 2, 3}


def test_captions_name_the_objects_from_left_to_right():
    for content in drawn("caption"):
        (caption,) = content.captions["en"]
        places = [caption.find(each.label) for each in content.objects]
        assert -1 not in places
        assert [each.box.x_min + each.box.x_max for each in content.objects] == sorted(
            each.box.x_min + each.box.x_max for each in content.objects
        )


def test_one_object_has_the_same_name_in_all_languages():
    for content in drawn("caption_languages"):
        place = NAMES["en"].index(content.captions["en"][0])
        assert {language: names[place] for language, names in NAMES.items()} == {
            language: captions[0] for language, captions in content.captions.items()
        }


def test_a_statement_about_pairs_is_true_as_often_as_not():
    contents = drawn("pair")
    assert all(len(content.pictures) == 2 for content in contents)
    answers = [content.asked[0].answer for content in contents]
    assert answers.count("True") == answers.count("False") == 6


def test_words_that_refer_come_with_a_box_around_the_outline():
    for content in drawn("refer"):
        for target in content.objects:
            assert not target.label.startswith("segment")
            rows, columns = np.nonzero(picture_mask(target, SIDE))
            box = target.box.pixels(SIDE, SIDE)
            found = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert np.abs(np.subtract(box, found)).max() <= 2


@pytest.mark.parametrize("kind", ["video_caption", "video_question"])
def test_videos_move_a_little(kind):
    for content in drawn(kind, 3):
        assert len(content.pictures) == 20
        changed = np.abs(np.subtract(content.pictures[0], content.pictures[-1], dtype=np.int16)).mean()
        assert 0 < changed < 40
    asked = [asked for content in drawn("video_question", 6) for asked in content.asked]
    assert all(each.answer in COLORS for each in asked if each.kind == "color")
