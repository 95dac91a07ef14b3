"""Data files of the package: the small trained model, its mask codec, page templates, example pictures."""

from pathlib import Path

_HERE = Path(__file__).parent
TINY_FOLDER = _HERE / "tiny"
"""The small trained model: an ordinary Hugging Face folder."""
MASK_CODEC_FOLDER = _HERE / "mask_codec"
"""The codec that the mask tokens of the small model belong to."""
TEMPLATES_FOLDER = _HERE / "templates"
"""Jinja2 templates."""
PICTURES_FOLDER = _HERE / "pictures"
"""Three example pictures for the demo."""
