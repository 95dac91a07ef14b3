"""Typefaces of the written words: some for training, others for `test_other_style` alone."""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from paligemma2.data.synthetic.seeds import OTHER_STYLE_SPLIT
from paligemma2.optional import require

PILLOW_FONT = "pillow"
"""The typeface that Pillow brings along."""

TRAINING_FONTS: tuple[str, ...] = (
    PILLOW_FONT,
    "font_manrope/Manrope-Medium.ttf",
    "font_manrope/Manrope-Bold.ttf",
    "font_caladea/Caladea-Regular.ttf",
    "font_caladea/Caladea-Bold.ttf",
    "font_source_sans_pro/SourceSansPro-Regular.ttf",
    "font_source_sans_pro/SourceSansPro-Bold.ttf",
    "font_fredoka_one/FredokaOne-Regular.ttf",
)
OTHER_FONTS: tuple[str, ...] = (
    "font_hanken_grotesk/HankenGrotesk-Medium.otf",
    "font_hanken_grotesk/HankenGrotesk-Bold.otf",
    "font_source_serif_pro/SourceSerifPro-Regular.ttf",
    "font_source_serif_pro/SourceSerifPro-Semibold.ttf",
)


def fonts_of(split: str) -> tuple[str, ...]:
    """The names of the typefaces of a split."""
    return OTHER_FONTS if split == OTHER_STYLE_SPLIT else TRAINING_FONTS


@lru_cache(maxsize=1024)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """The typeface at a size in pixels.

    Raises:
        MissingExtra: the package of the typeface is not installed.
    """
    if name == PILLOW_FONT:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow is built without FreeType"
        # Basic layout needs no further library, so every machine sets letters alike.
        return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
    package, file = name.split("/")
    folder = Path(str(require(package, extra="pretrain").__file__)).parent
    return ImageFont.truetype(folder / "files" / file, size, layout_engine=ImageFont.Layout.BASIC)
