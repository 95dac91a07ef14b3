"""PaliGemma 2 in PyTorch: load, predict, transfer.

    import paligemma2
    model = paligemma2.load("tiny")
    model.caption("picture.png")

Public names are imported when first used, so that `import paligemma2` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paligemma2.errors import PaliGemmaError
    from paligemma2.inference.loading import load
    from paligemma2.inference.predictor import PaliGemma2
    from paligemma2.processing.processor import Processor
    from paligemma2.types import Box, Clip, Detection, Example, Generation

__version__ = "0.1.0"

_HOMES = {
    "load": "paligemma2.inference.loading",
    "PaliGemma2": "paligemma2.inference.predictor",
    "Processor": "paligemma2.processing.processor",
    "PaliGemmaError": "paligemma2.errors",
    "Box": "paligemma2.types",
    "Clip": "paligemma2.types",
    "Detection": "paligemma2.types",
    "Example": "paligemma2.types",
    "Generation": "paligemma2.types",
}
__all__ = [
    "Box",
    "Clip",
    "Detection",
    "Example",
    "Generation",
    "PaliGemma2",
    "PaliGemmaError",
    "Processor",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'paligemma2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
