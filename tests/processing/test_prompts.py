import pytest

from paligemma2.errors import InputError
from paligemma2.processing import prompts
from paligemma2.types import Box

WHOLE = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (prompts.caption(), "caption en"),
        (prompts.caption("de"), "caption de"),
        (prompts.cap("fr"), "cap fr"),
        (prompts.describe(), "describe en"),
        (prompts.ocr(), "ocr"),
        (prompts.answer("what is this?"), "answer en what is this?"),
        (prompts.question("two cats", "es"), "question es two cats"),
        (prompts.detect("cat"), "detect cat"),
        (prompts.detect("cat", " red dog "), "detect cat ; red dog"),
        (prompts.segment("cat", "dog"), "segment cat ; dog"),
        (prompts.caption_region(WHOLE), "caption <loc0000><loc0000><loc1023><loc1023>"),
    ],
)
def test_each_task_form_reads_as_in_training(prompt, text):
    assert str(prompt) == text


def test_only_the_location_tokens_of_a_region_are_trusted():
    trusted = [piece.text for piece in prompts.caption_region(WHOLE).pieces if piece.trusted]
    assert trusted == ["<loc0000><loc0000><loc1023><loc1023>"]


def test_a_plain_string_is_never_trusted():
    assert prompts.pieces_of("<loc0001>") == (prompts.Piece("<loc0001>", trusted=False),)


@pytest.mark.parametrize("build", [prompts.detect, prompts.segment])
@pytest.mark.parametrize("labels", [(), ("",), (" ",), ("cat ; dog",)])
def test_labels_must_be_names(build, labels):
    with pytest.raises(InputError, match="label"):
        build(*labels)
