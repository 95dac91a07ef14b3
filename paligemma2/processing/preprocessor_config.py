"""The image settings beside a Hugging Face checkpoint, read as our `Resize`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paligemma2.errors import CheckpointError
from paligemma2.model.config import ModelConfig
from paligemma2.processing.image import HF, Resize

_RESIZE_OF_RESAMPLE = {2: Resize("bilinear", convention="hugging_face"), 3: HF}
_HALF = [0.5, 0.5, 0.5]


def read_resize(folder: Path, config: ModelConfig) -> Resize:
    """The resize of a checkpoint folder; that of the released checkpoints (HF) where no file names one.

    Raises:
        CheckpointError: a file is damaged, or asks for pixels that this model does not read.
    """
    path = folder / "preprocessor_config.json"
    content = _read_object(path)
    if content is None:  # transformers 5 saves all in one file
        path = folder / "processor_config.json"
        content = (_read_object(path) or {}).get("image_processor", {})
    side = config.vision.image_size
    expected = {
        "size": {"height": side, "width": side},
        "image_mean": _HALF,
        "image_std": _HALF,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
    }
    wrong = [
        f"{name} {content[name]!r}" for name, value in expected.items() if content.get(name, value) != value
    ]
    resample = content.get("resample", 3)
    if resample not in (2, 3):
        wrong.append(f"resample {resample!r}")
    if wrong:
        raise CheckpointError(
            f"{path}: cannot prepare images with {', '.join(wrong)}",
            hint=f"this model reads {side} px, bicubic (3) or bilinear (2), scaled to -1..1",
        )
    return _RESIZE_OF_RESAMPLE[resample]


def _read_object(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not JSON ({error})", hint="download the file again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object", hint="download the file again")
    return content
