"""Teach the small model a task drawn at random: `python examples/transfer.py FOLDER [STEPS]`."""

import sys
from pathlib import Path

from paligemma2.data.synthetic.transfer_task import write_transfer_task
from paligemma2.jobs.transfer import TransferConfig, run

folder = Path(sys.argv[1])
write_transfer_task(folder / "task", train=640, held_out=100, seed=1)
config = TransferConfig(
    model="tiny",
    data=folder / "task",
    output=folder / "model",
    steps=int(sys.argv[2]) if len(sys.argv) > 2 else 250,
    max_new_tokens=12,
)
report = run(config, lambda name, progress: print(f"step {progress.step}  loss {progress.loss:.3f}"))
print(f"{report.metric}: {report.before:.2f} before, {report.after:.2f} after")
