import numpy as np

from paligemma2.data.miniatures.content import SIDE, Asked, Content


def test_a_content_needs_no_more_than_pictures():
    content = Content(number=1, pictures=(np.zeros((SIDE, SIDE, 3), np.uint8),))
    assert (content.asked, dict(content.captions), content.objects) == ((), {}, ())


def test_a_question_is_open_unless_it_has_choices():
    assert Asked(question="what is it?", answer="a cat", kind="name").choices == ()
