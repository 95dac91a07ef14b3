"""Fine-tune a model that several processes share.

torchrun --nproc-per-node 2 examples/sharded_transfer.py DATA OUTPUT [MODEL [STEPS]]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.data.loader import load_batches
from paligemma2.data.sources import DataSource
from paligemma2.data.training_data import open_training_data
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.processes import join_processes
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.recipe import Recipe
from paligemma2.training.sharding import fill_shards, save_shared_model, shard
from paligemma2.training.trainer import Trainer, bfloat16_is_fast

data, output, source, steps = (*sys.argv[1:], *("", "", "tiny", "100")[len(sys.argv) - 1 :])
mesh, device = join_processes("auto", purpose="sharded training")
rank, size = mesh.get_local_rank(), mesh.size()

# No process ever holds the whole model: it is made without memory, shared out, and then filled.
checkpoint = open_checkpoint(TINY_FOLDER if source == "tiny" else source)
with torch.device("meta"):
    model = PaliGemma2Model(checkpoint.config)
model.prepare_training(recomputation="full")
loss = SuffixObjective(model)
dtype = torch.bfloat16 if bfloat16_is_fast(device) else torch.float32
objective = shard(model, loss, loss.weight_of, mesh, compute_dtype=dtype)
fill_shards(model, checkpoint.weights.stream())

# Together the shares of all processes are the batches that one process would have.
recipe = Recipe(steps=int(steps), batch_size=8 * size, learning_rate=1e-4)
processor = Processor.from_folder(checkpoint.folder, checkpoint.config)
examples = open_training_data([DataSource(path=Path(data))], processor, batch_size=8, seed=0)


def batches(start: int, stop: int) -> Iterator[ModelInputs]:
    """This process's share of the batch of each step."""
    return load_batches(lambda step: examples.batch(step * size + rank), start, stop)


folder = Path(output)
trainer = Trainer(
    model,
    recipe,
    objective,
    folder=folder.with_name(f"{folder.name}.run"),
    identity={"model": source, "data": examples.fingerprint},
    on_progress=lambda progress: print(f"step {progress.step}  loss {progress.loss:.3f}"),
)
trainer.fit(batches)
save_shared_model(folder, model, checkpoint.config, files_from=checkpoint.folder)
dist.destroy_process_group()
