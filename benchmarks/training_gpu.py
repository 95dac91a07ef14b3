"""The rows of `train_vs_transformers.py` for a GPU: the whole 3B model. Not run yet, for want of one."""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from training_sides import Length, Ours, Peer, random_batch, step

from paligemma2.checkpoint.save import save_model
from paligemma2.jobs.bench import matrix_rate, parameter_counts, random_model
from paligemma2.model.config import ModelConfig, preset
from paligemma2.processing.processor import ModelInputs

FULL_BATCH = (Length(1, 32, 32),) * 16
LORA_BATCH = (Length(1, 32, 32),) * 8
LORA_RANK = 16
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
STEPS = 5
DEVICE = torch.device("cuda")


def gpu_rows(folder: Path) -> list[dict[str, Any]]:
    """Full fine-tuning at 224 px with the share of the GPU's arithmetic, and the memory of LoRA at 448 px."""
    config = preset("paligemma2-3b-pt-224")
    save_model(folder / "224", random_model(config), config, files_from=None)
    inputs = random_batch(config, FULL_BATCH)
    ours = measured(lambda: Ours(folder / "224", "none", "cuda"), inputs)
    peer = measured(lambda: Peer(folder / "224", "cuda"), inputs)
    rate = step_flops(config, inputs) / ours["seconds"]
    share = {"flops_share_of_matrix_rate": rate / matrix_rate(DEVICE), "flops_per_second": rate}
    rows = [
        gpu_row("gpu_full_224_step_time", "s", "seconds", ours, peer) | share,
        gpu_row("gpu_full_224_peak_memory", "bytes", "bytes", ours, peer),
    ]
    config = preset("paligemma2-3b-pt-448")
    save_model(folder / "448", random_model(config), config, files_from=None)
    inputs = random_batch(config, LORA_BATCH)
    ours = measured(lambda: with_our_lora(Ours(folder / "448", "none", "cuda")), inputs)
    peer = measured(lambda: with_peft(Peer(folder / "448", "cuda")), inputs)
    return [
        *rows,
        gpu_row("gpu_lora_448_step_time", "s", "seconds", ours, peer),
        gpu_row("gpu_lora_448_peak_memory", "bytes", "bytes", ours, peer),
    ]


def gpu_row(name: str, unit: str, key: str, ours: dict[str, float], peer: dict[str, float]) -> dict[str, Any]:
    made = {"row": name, "unit": unit, "ours": ours[key], "peer": peer[key], "ratio": peer[key] / ours[key]}
    losses = {"loss": ours["loss"], "loss_difference": ours["loss"] - peer["loss"]}
    return made | losses | {"against": "transformers"}


def measured(build: Callable[[], Ours | Peer], inputs: ModelInputs) -> dict[str, float]:
    """The best seconds of a step with fused AdamW, the largest memory allocated, and the first loss."""
    side = build()
    trained = [parameter for parameter in side.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    torch.cuda.reset_peak_memory_stats()
    seconds, losses = [], []
    for _ in range(STEPS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        losses.append(step(side, inputs, "bfloat16"))
        optimizer.step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    result = {
        "seconds": min(seconds),
        "bytes": float(torch.cuda.max_memory_allocated()),
        "loss": losses[0],
    }
    del side, trained, optimizer
    gc.collect()
    torch.cuda.empty_cache()
    return result


def step_flops(config: ModelConfig, inputs: ModelInputs) -> float:
    """Multiplications and additions that a step must do; attention and recomputation are not counted."""
    counts = parameter_counts(config)
    assert inputs.loss_weights is not None
    image_tokens = len(inputs.pixel_values) * config.num_image_tokens
    return 6.0 * (
        image_tokens * counts["vision"]
        + int(inputs.layout.is_valid.sum()) * counts["blocks"]
        + float(inputs.loss_weights.sum()) * counts["embedding"]
    )


def with_our_lora(side: Ours) -> Ours:
    """Everything frozen but new matrices of low rank in the decoder's blocks, in one adapter for all rows."""
    from paligemma2.model.lora import Adapter, LowRank, attach, using_adapters

    changes = {}
    for name, module in side.model.named_modules():
        if isinstance(module, torch.nn.Linear) and name.startswith("language_model."):
            a = torch.randn(LORA_RANK, module.in_features) * module.in_features**-0.5
            changes[name] = LowRank(a, torch.zeros(module.out_features, LORA_RANK), LORA_RANK)
    side.model.requires_grad_(False)
    attach(side.model, {"new": Adapter(changes=changes)})  # type: ignore[arg-type]
    loss = side.loss

    def loss_with_adapter(inputs: ModelInputs) -> torch.Tensor:
        with using_adapters(["new"] * len(inputs.token_ids), DEVICE):
            return loss(inputs)

    side.loss = loss_with_adapter  # type: ignore[method-assign]
    return side


def with_peft(side: Peer) -> Peer:
    """The same through peft, with its defaults."""
    from peft import LoraConfig, get_peft_model

    options = LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=LORA_TARGETS)
    side.model = get_peft_model(side.model, options)  # type: ignore[arg-type]
    return side
