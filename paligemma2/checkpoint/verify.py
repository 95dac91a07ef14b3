"""What a checkpoint holds, from headers alone, and a short number that tells whether two compute the same."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.checkpoint.open_checkpoint import Checkpoint
from paligemma2.checkpoint.weights import OnProgress, Weights, dtype_name, total_bytes
from paligemma2.model.config import ModelConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout

_PARTS = {
    "image encoder": "vision_tower.",
    "projector": "multi_modal_projector.",
    "embedding": EMBEDDING,
    "decoder": "language_model.",
}
_NUM_SAMPLES = 64
_NUM_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    """Counts of what is stored.

    Attributes:
        num_tensors: tensors of the model.
        num_bytes: bytes of all tensors.
        dtypes: numbers per dtype.
        parameters: numbers per part of the model; the embedding, tied to the output, counts once.
    """

    num_tensors: int
    num_bytes: int
    dtypes: Mapping[str, int]
    parameters: Mapping[str, int]

    @property
    def num_parameters(self) -> int:
        """All parameters of the model."""
        return sum(self.parameters.values())


def tensor_report(weights: Weights) -> TensorReport:
    """Counts from headers; rows of the vocabulary that the file does not hold are not counted."""
    dtypes: dict[str, int] = {}
    parameters = dict.fromkeys(_PARTS, 0)
    absent_bytes = 0
    for name, tensor in weights.tensors.items():
        size = tensor.size
        if name == EMBEDDING:
            absent = weights.num_zero_rows * tensor.shape[1]
            size -= absent
            absent_bytes = absent * tensor.dtype.itemsize
        part = next(part for part, prefix in _PARTS.items() if name.startswith(prefix))
        parameters[part] += size
        dtypes[dtype_name(tensor.dtype)] = dtypes.get(dtype_name(tensor.dtype), 0) + size
    return TensorReport(
        num_tensors=len(weights.tensors),
        num_bytes=total_bytes(weights.tensors) - absent_bytes,
        dtypes=dtypes,
        parameters=parameters,
    )


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Logits of one fixed input, in float32.

    Attributes:
        digest: 16 hexadecimal digits of the samples rounded to two decimals. Equal digests: the same model,
            whatever its file layout. On another kind of processor a last digit may fall differently; then
            compare `samples`.
        samples: logits of ids spread over the vocabulary, for the token after the input.
        mean: of the samples.
        largest: of the samples.
    """

    digest: str
    samples: tuple[float, ...]
    mean: float
    largest: float


@torch.inference_mode()
def logit_fingerprint(checkpoint: Checkpoint, *, on_progress: OnProgress | None = None) -> Fingerprint:
    """The fingerprint of a checkpoint, computed block by block.

    Memory holds one block in float32, or the embedding as stored twice while it is read.

    Args:
        checkpoint: as opened.
        on_progress: called with the bytes read and in all.
    """
    config, weights = checkpoint.config, checkpoint.weights
    count = min(_NUM_SAMPLES, config.num_text_rows)
    rows = torch.arange(count) * config.num_text_rows // count
    # A vocabulary of the samples alone: the input is written with them, the logits are theirs.
    text = dataclasses.replace(config.text, vocab_size=count)
    small = dataclasses.replace(
        config, text=text, image_token_id=count, pad_token_id=0, eos_token_id=0, bos_token_id=0
    )
    with torch.device("meta"):
        model = PaliGemma2Model(small).eval()
    _Blocks(model, weights, rows, on_progress)
    slots = torch.full((1, config.num_image_tokens), count)
    token_ids = torch.cat([slots, torch.arange(_NUM_TOKENS)[None] * 7 % count], dim=1)
    is_valid = torch.ones_like(token_ids, dtype=torch.bool)
    layout = PrefixLayout.from_flags(is_valid, is_valid)
    hidden = model.hidden_states(token_ids, model.encode_images(_picture(config)), layout)
    logits = model.language_model.logits(hidden[:, -1])[0]
    samples = tuple(round(value, 6) for value in logits.tolist())
    rounded = " ".join(f"{round(value, 2) + 0.0:.2f}" for value in samples)
    return Fingerprint(
        digest=hashlib.sha256(rounded.encode()).hexdigest()[:16],
        samples=samples,
        mean=sum(samples) / count,
        largest=max(samples),
    )


def weights_digest(checkpoint: Checkpoint) -> str:
    """16 hexadecimal digits of the sizes of a checkpoint and of a few numbers of each tensor.

    Only the pages with these numbers are read of safetensors, so that it takes no time to speak of; another
    training step changes it, while soft-caps, windows and names of files do not.
    """
    digest, parts = hashlib.sha256(), {}
    for name, tensor in checkpoint.weights.stream():
        places = torch.arange(_NUM_SAMPLES) * tensor.numel() // _NUM_SAMPLES
        sample = tensor.flatten()[places].float()
        parts[name] = f"{name} {list(tensor.shape)}".encode() + sample.contiguous().numpy().tobytes()
    for name in sorted(parts):
        digest.update(parts[name])
    return digest.hexdigest()[:16]


def _picture(config: ModelConfig) -> Tensor:
    """[1, channels, height, width] in [-1, 1], from whole numbers so that it is the same everywhere."""
    vision = config.vision
    shape = (1, vision.num_channels, vision.image_size, vision.image_size)
    counter = torch.arange(vision.num_channels * vision.image_size**2, dtype=torch.int64)
    return (((counter * 2654435761 >> 8) % 256).float() / 127.5 - 1).view(shape)


class _Blocks:
    """Gives every block its weights just before its turn and takes them away after it."""

    def __init__(
        self, model: PaliGemma2Model, weights: Weights, rows: Tensor, on_progress: OnProgress | None
    ) -> None:
        self._weights = weights
        self._on_progress = on_progress
        self._done = 0
        self._total = total_bytes(weights.tensors)
        blocks = {"vision_tower.embeddings", "vision_tower.post_layernorm", "multi_modal_projector"}
        blocks |= {f"vision_tower.encoder.layers.{i}" for i in range(model.config.vision.num_layers)}
        blocks |= {f"language_model.layers.{i}" for i in range(model.config.text.num_layers)}
        blocks |= {"language_model.norm"}
        for name, module in model.named_modules():
            if name in blocks:
                self._attach(name, module)
        table = self._read(EMBEDDING)[rows].float()
        model.language_model.embed_tokens.weight = nn.Parameter(table, requires_grad=False)

    def _attach(self, name: str, module: nn.Module) -> None:
        def fill(module: nn.Module, _inputs: object) -> None:
            inner = [inner for inner, _ in module.named_parameters()]
            tensors = {path: self._read(f"{name}.{path}").float() for path in inner}
            module.load_state_dict(tensors, assign=True)

        def empty(module: nn.Module, _inputs: object, _output: object) -> None:
            module.to("meta")

        module.register_forward_pre_hook(fill)
        module.register_forward_hook(empty)

    def _read(self, name: str) -> Tensor:
        tensor = self._weights.read(name)
        self._done += tensor.nbytes
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
        return tensor
