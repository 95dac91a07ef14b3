"""Whether the memory suffices for the answers of `predict`, said before they are begun."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from paligemma2.inference.predictor import PaliGemma2
from paligemma2.model.memory import inference_memory
from paligemma2.types import Decoding

_log = logging.getLogger(__name__)


def note_memory(
    model: PaliGemma2, batches: Iterable[Sequence[int]], prompt: str, limit: int, decoding: Decoding
) -> None:
    """Log a warning if the largest batch takes more memory than there is beside the loaded model.

    Nothing is logged where it is not known how much there is.

    Args:
        model: is loaded, so that its weights take nothing more.
        batches: for each batch the number of pictures of each of its questions.
        prompt: of all questions.
        limit: the most tokens of an answer.
        decoding: says how many rows an answer takes while it is written.

    Raises:
        InputError: the prompt is longer than the model's context.
    """
    available = available_memory(model.model.device)
    if available is None:
        return
    pictures = max(batches, key=sum)
    needed = inference_memory(
        model.config,
        batch=len(pictures) * (decoding.beams if decoding.method == "beam" else decoding.best_of),
        images=sum(pictures),
        prompt_tokens=len(model.processor.prompt_ids(prompt, max(pictures))),
        max_new_tokens=limit,
        dtype=model.model.dtype,
        is_padded=len(set(pictures)) > 1,
        weights=0,
    ).total
    if needed > available:
        _log.warning(
            "note: %.1f GB are needed beside the model, %.1f GB are free; give a smaller batch size",
            needed / 1e9,
            available / 1e9,
        )


def available_memory(device: torch.device) -> int | None:
    """Bytes that new tensors may take, or None where that is not known: neither Linux nor CUDA."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    facts = Path("/proc/meminfo")
    if device.type != "cpu" or not facts.exists():
        return None
    lines = (line.split() for line in facts.read_text(encoding="ascii").splitlines())
    # Not the free pages of `os.sysconf`: files just read fill these, and give way.
    return next((int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:"), None)
