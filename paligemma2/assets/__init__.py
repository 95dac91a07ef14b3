"""Data files of the package: the small trained model, page templates, example pictures."""

from pathlib import Path

_HERE = Path(__file__).parent
TINY_FOLDER = _HERE / "tiny"
"""The small trained model: an ordinary Hugging Face folder."""
TEMPLATES_FOLDER = _HERE / "templates"
"""Jinja2 templates."""
PICTURES_FOLDER = _HERE / "pictures"
"""Three example pictures for the demo."""
