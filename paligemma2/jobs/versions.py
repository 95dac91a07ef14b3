"""With what a result was made."""

import platform

import torch

import paligemma2


def versions() -> dict[str, str]:
    """The versions that the record of a training holds, by name."""
    return {
        "paligemma2": paligemma2.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
