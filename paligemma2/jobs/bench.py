"""How fast a model is on this machine, beside what the machine could do at best."""

import itertools
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.checkpoint.quantized_folder import check_quantization
from paligemma2.errors import InputError
from paligemma2.inference.decoding import decode
from paligemma2.inference.devices import (
    Dtype,
    device_named,
    dtype_named,
    form_for,
    has_bfloat16_arithmetic,
)
from paligemma2.inference.loading import load
from paligemma2.jobs.versions import versions
from paligemma2.model.config import ModelConfig, preset, variant_name
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.piecewise import finish
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.weight_forms import Quantization, refill, stored_bytes
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding

TEXT_TOKENS = 8
"""Of the prompts that are measured, bos and separator included."""
_FIRST_FREE_ID = 3


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is measured.

    Attributes:
        source: as for `load`; with `is_random` the name of a variant, e.g. `paligemma2-3b-pt-224`.
        is_random: random weights instead of a checkpoint's.
        device: as for `load`.
        dtype: as for `load`.
        quantize: as for `load`.
        batches: numbers of prompts that are answered at once.
        tokens: of an answer.
        repeats: how often each figure is taken; the best counts.
    """

    source: str | Path = "tiny"
    is_random: bool = False
    device: str = "auto"
    dtype: Dtype = "auto"
    quantize: Quantization | None = None
    batches: tuple[int, ...] = (1, 4)
    tokens: int = 16
    repeats: int = 3

    def __post_init__(self) -> None:
        for name, value in (("repeats", self.repeats), *(("batch", batch) for batch in self.batches)):
            if value < 1:
                raise InputError(f"{name} is {value}", hint="give at least 1")
        if self.tokens < 2:
            raise InputError(f"tokens is {self.tokens}", hint="give at least 2, or there is no step to time")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The best rates measured: of a matrix product as large as the decoder's, and of reading memory."""

    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Seconds that something took, and those that its arithmetic or its reading of weights must take."""

    name: str
    seconds: float
    floor: float

    @property
    def fraction(self) -> float:
        """How much of the machine's limit was reached; small models stay in the caches and may pass it."""
        return self.floor / self.seconds


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """All figures, and on what they were taken.

    Attributes:
        machine: processor or GPU, and the number of threads.
        model: the variant.
        weights: the dtype that the model computes in, or the kind of few bits.
        weight_bytes: of the weights as they are kept.
        peak_bytes: the largest resident memory of the process, or the largest allocated on the GPU.
    """

    machine: str
    versions: dict[str, str]
    model: str
    weights: str
    limits: Limits
    figures: tuple[Figure, ...]
    weight_bytes: int
    peak_bytes: int


def run(config: BenchConfig, on_event: Callable[[str], None] = lambda message: None) -> BenchReport:
    """Measure the machine, then the model on it.

    Raises:
        InputError: no such model or device.
        ConfigError: no such variant.
        CheckpointError: the checkpoint is damaged.
    """
    device = device_named(config.device)
    if config.quantize is not None:
        check_quantization(config.quantize)
    if config.is_random:
        model = random_model(preset(str(config.source)))
        dtype = dtype_named(config.dtype) or model.dtype
        form = form_for(device, dtype, quantize=config.quantize)
        refill(model.to(device, dtype), form, table=EMBEDDING)
    else:
        model = load(config.source, device=config.device, dtype=config.dtype, quantize=config.quantize).model
    on_event("measuring the machine")
    limits = Limits(flops_per_second=matrix_rate(device), bytes_per_second=read_rate(device))
    figures: list[Figure] = []
    for batch in config.batches:
        on_event(f"measuring {batch} at a time")
        figures += _figures(model, batch, config, limits)
    return BenchReport(
        machine=machine_name(device),
        versions=versions(),
        model=variant_name(model.config),
        weights=config.quantize or str(model.dtype).removeprefix("torch."),
        limits=limits,
        figures=tuple(figures),
        weight_bytes=stored_bytes(model),
        peak_bytes=peak_bytes(device),
    )


def random_model(config: ModelConfig) -> PaliGemma2Model:
    """Random weights in bfloat16, which write different tokens one after the other."""
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    model.to_empty(device="cpu").bfloat16().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.data.normal_(0.0, 0.1, generator=generator)
    # Signs of both kinds, or the tied output layer would repeat the last token for ever.
    model.language_model.norm.weight.data.normal_(-1.0, 1.0, generator=generator)
    return model


def random_prompts(config: ModelConfig, batch: int) -> ModelInputs:
    """Different pictures of noise with prompts of equal length."""
    generator = torch.Generator().manual_seed(1)
    limit = min(config.num_text_rows, 200_000)
    text = torch.randint(_FIRST_FREE_ID, limit, (batch, TEXT_TOKENS - 1), generator=generator)
    image = torch.full((batch, config.num_image_tokens), config.image_token_id)
    ids = torch.cat((image, torch.full((batch, 1), config.bos_token_id), text), dim=1)
    everything = torch.ones_like(ids, dtype=torch.bool)
    size = config.vision.image_size
    return ModelInputs(
        token_ids=ids,
        pixel_values=torch.rand(batch, 3, size, size, generator=generator) * 2 - 1,
        image_index=torch.arange(batch),
        layout=PrefixLayout.from_flags(everything, everything),
        loss_weights=None,
        ids=("",) * batch,
    )


def parameter_counts(config: ModelConfig) -> dict[str, int]:
    """Parameters of the image encoder with its projector, of the decoder's blocks, and of the embedding."""
    with torch.device("meta"):
        model = PaliGemma2Model(config)
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}
    embedding = model.language_model.embed_tokens.weight.numel()
    return {
        "vision": counts["vision_tower"] + counts["multi_modal_projector"],
        "blocks": counts["language_model"] - embedding,
        "embedding": embedding,
    }


def floors(config: ModelConfig, batch: int, limits: Limits, decoder_bytes: float) -> dict[str, float]:
    """The least seconds: of arithmetic for images and first token, of reading the decoder for a step.

    Attention is not counted: at 224 px it is about 1 % of the arithmetic.
    """
    counts = parameter_counts(config)
    encode = 2.0 * batch * config.num_image_tokens * counts["vision"]
    read = 2.0 * batch * (config.num_image_tokens + TEXT_TOKENS) * counts["blocks"]
    head = 2.0 * batch * counts["embedding"]
    return {
        "images": encode / limits.flops_per_second,
        "first_token": (encode + read + head) / limits.flops_per_second,
        "decode": decoder_bytes / limits.bytes_per_second,
    }


def matrix_rate(device: torch.device) -> float:
    """The best rate of a large matrix product, multiplications and additions per second."""
    is_gpu = device.type != "cpu"
    dtype = torch.bfloat16 if is_gpu or has_bfloat16_arithmetic() else torch.float32
    rows, width, outputs = (8192, 8192, 8192) if is_gpu else (264, 2304, 9216)
    x = torch.randn(rows, width, device=device, dtype=dtype)
    weight = torch.randn(outputs, width, device=device, dtype=dtype)
    return 2.0 * rows * width * outputs / best_time(lambda: F.linear(x, weight), 12, device)


def read_rate(device: torch.device) -> float:
    """The best rate at which memory far larger than the caches is read, bytes per second."""
    data = torch.ones(2**27, dtype=torch.float32, device=device)
    return data.nbytes / best_time(data.sum, 8, device)


def best_time(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The shortest of some runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        _wait_for(device)
        times.append(time.perf_counter() - start)
    return min(times)


def machine_name(device: torch.device) -> str:
    """The GPU, or the processor with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def peak_bytes(device: torch.device) -> int:
    """The largest memory so far: allocated on the GPU, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent had when it started this process
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _figures(model: PaliGemma2Model, batch: int, config: BenchConfig, limits: Limits) -> list[Figure]:
    inputs = random_prompts(model.config, batch)
    least = floors(model.config, batch, limits, stored_bytes(model.language_model))
    seconds: dict[str, list[float]] = {name: [] for name in least}
    for _ in range(config.repeats):
        seconds["images"].append(best_time(lambda: _encode(model, inputs), 1, model.device))
        start = time.perf_counter()
        steps = decode(model, inputs, Decoding(max_new_tokens=config.tokens))
        times = [time.perf_counter() for _ in steps]
        seconds["first_token"].append(times[0] - start)
        seconds["decode"] += [after - before for before, after in itertools.pairwise(times)]
    return [
        Figure(name=f"{name}_b{batch}", seconds=min(taken), floor=least[name])
        for name, taken in seconds.items()
        if taken
    ]


@torch.inference_mode()
def _encode(model: PaliGemma2Model, inputs: ModelInputs) -> None:
    finish(model.encode_images_in_pieces(inputs.pixel_values.to(model.device)))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
