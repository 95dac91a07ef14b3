import pytest

from paligemma2.data.synthetic.fonts import OTHER_FONTS, PILLOW_FONT, TRAINING_FONTS, fonts_of, load_font
from paligemma2.errors import MissingExtra


@pytest.mark.parametrize("name", [*TRAINING_FONTS, *OTHER_FONTS])
def test_every_typeface_has_all_capitals_apart(name):
    font = load_font(name, 40)
    pictures = {bytes(font.getmask(letter)) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    assert len(pictures) == 26


def test_the_other_style_uses_families_that_training_never_shows():
    families = [{name.split("/")[0] for name in names} for names in (TRAINING_FONTS, OTHER_FONTS)]
    assert not families[0] & families[1]
    assert fonts_of("test_other_style") == OTHER_FONTS
    assert fonts_of("train") == fonts_of("test") == TRAINING_FONTS


def test_a_missing_typeface_names_the_extra():
    with pytest.raises(MissingExtra, match="pretrain"):
        load_font("font_that_is_not_there/x.ttf", 20)


def test_pillows_own_typeface_needs_no_package():
    assert load_font(PILLOW_FONT, 20).size == 20
