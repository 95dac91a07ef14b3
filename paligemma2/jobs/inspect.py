"""What a checkpoint is: variant, sizes, parameter counts, and a fingerprint of what it computes."""

from dataclasses import dataclass
from pathlib import Path

from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.checkpoint.verify import Fingerprint, TensorReport, logit_fingerprint, tensor_report
from paligemma2.checkpoint.weights import OnProgress, dtype_name, main_dtype
from paligemma2.model.config import ModelConfig, variant_name


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Facts about a checkpoint.

    Attributes:
        path: the folder or file.
        variant: `3b-224`, or the plain sizes of another model.
        resolution: pixels along one side of the image.
        num_image_tokens: tokens per image.
        layout: of the file, in words.
        dtype: that most numbers are stored in.
        num_zero_rows: rows at the end of the vocabulary that the file does not hold; they are read as zeros.
        tensors: counts.
        fingerprint: None if not asked for.
    """

    path: Path
    config: ModelConfig
    variant: str
    resolution: int
    num_image_tokens: int
    layout: str
    dtype: str
    num_zero_rows: int
    tensors: TensorReport
    fingerprint: Fingerprint | None


def run(source: str | Path, *, fingerprint: bool = True, on_progress: OnProgress | None = None) -> Inspection:
    """Inspect a checkpoint; see `logit_fingerprint` for the memory it takes.

    Args:
        source: a Hugging Face folder, a big_vision `.npz`, or a hub id.
        fingerprint: also compute the logits of a fixed input, which reads the weights once.
        on_progress: called with the bytes read and in all.

    Raises:
        InputError: no such checkpoint.
        ConfigError: its configuration makes no sense.
        CheckpointError: its weights are damaged or do not fit.
    """
    checkpoint = open_checkpoint(source)
    weights, config = checkpoint.weights, checkpoint.config
    return Inspection(
        path=weights.path,
        config=config,
        variant=variant_name(config),
        resolution=config.vision.image_size,
        num_image_tokens=config.num_image_tokens,
        layout=weights.layout,
        dtype=dtype_name(main_dtype(weights.tensors)),
        num_zero_rows=weights.num_zero_rows,
        tensors=tensor_report(weights),
        fingerprint=logit_fingerprint(checkpoint, on_progress=on_progress) if fingerprint else None,
    )
