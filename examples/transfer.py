"""Teach the small model a task drawn at random: `python examples/transfer.py FOLDER [STEPS]`."""

import sys
from pathlib import Path

from paligemma2.data.synthetic.transfer_task import write_transfer_task
from paligemma2.jobs.transfer import run
from paligemma2.jobs.transfer_config import configure

folder = Path(sys.argv[1])
write_transfer_task(folder / "task", train=640, held_out=100, seed=1)
steps = sys.argv[2] if len(sys.argv) > 2 else "250"
settings = (f"training.steps={steps}", "evaluation.max_new_tokens=12")
config = configure("tiny", folder / "task", folder / "model", settings=settings)
report = run(config, lambda name, progress: print(f"step {progress.step}  loss {progress.loss:.3f}"))
print(f"{report.metric}: {report.before:.2f} before, {report.after:.2f} after")
