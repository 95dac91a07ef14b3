"""Teach the small model three tasks that it does not know, with and without the right pictures.

    python benchmarks/transfer_tasks.py --json benchmarks/results/transfer_tasks.json --charts docs

- detect: "find the parts" on one or two shapes drawn in a style that pre-training does not use, answered with
  boxes and made-up names.
- answer: "sort the part" of the demo, whose rule a seed draws.
- read: "spell the label" on words in typefaces that pre-training does not use, answered letter by letter with
  their number in front.

Each is learned twice: from its examples, and, as a control, from the same ones with their pictures shuffled:
prompts, answers and pictures stay, but no longer belong together. What the control reaches can be had without
looking at the picture.
"""

import argparse
import json
import platform
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from paligemma2.data.synthetic.lettering import draw_lettering, random_lettering
from paligemma2.data.synthetic.render import draw_scene
from paligemma2.data.synthetic.samples import Pixels
from paligemma2.data.synthetic.scenes import OTHER_THEME, random_contents, random_scene
from paligemma2.data.synthetic.seeds import OTHER_STYLE_SPLIT, random_for
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.transfer_task import PREFIX, bin_rule
from paligemma2.drawing.chart import Chart, Point
from paligemma2.drawing.page import render_charts
from paligemma2.jobs import transfer
from paligemma2.jobs.transfer_config import configure
from paligemma2.jobs.transfer_evaluation import Evaluation
from paligemma2.processing.objects import objects_to_suffix
from paligemma2.training.run_log import EVALUATIONS, read_log
from paligemma2.types import Detection

SIZE = 112
NAMES = dict(zip(SHAPES, ("cog", "nut", "peg", "cam", "hub", "rod", "pin"), strict=True))


@dataclass(frozen=True)
class Row:
    """One example before it is written to a folder."""

    pixels: Pixels
    prefix: str
    suffix: str


@dataclass(frozen=True)
class Task:
    """A task, and how long it is taught."""

    example: Callable[[random.Random], Row]
    steps: int = 200
    train: int = 640
    held_out: int = 64


def detect_row(rng: random.Random) -> Row:
    scene = random_scene(rng, random_contents(rng, rng.choice((1, 2))), OTHER_THEME)
    found = [Detection(box=item.box, label=NAMES[item.shape]) for item in scene.left_to_right]
    return Row(draw_scene(scene, SIZE), "find the parts", objects_to_suffix(found))


def answer_row(rng: random.Random) -> Row:
    (part,) = contents = random_contents(rng, 1)
    pixels = draw_scene(random_scene(rng, contents, OTHER_THEME), SIZE)
    return Row(pixels, PREFIX, bin_rule(0).bin_of(part.shape, part.color))


def read_row(rng: random.Random) -> Row:
    lettering = random_lettering(rng, OTHER_STYLE_SPLIT)
    suffix = f"{len(lettering.word)} , " + " - ".join(lettering.word)
    return Row(draw_lettering(lettering, SIZE), "spell the label", suffix)


TASKS = {
    "detect": Task(detect_row),
    "answer": Task(answer_row),
    "read": Task(read_row, steps=240, train=1000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--steps", type=int, help="updates of each run, instead of its own number")
    parser.add_argument("--train", type=int, help="examples to train on, instead of its own number")
    parser.add_argument("--held-out", type=int, help="examples to score, instead of its own number")
    parser.add_argument("--json", type=Path, help="results of other tasks in this file are kept")
    parser.add_argument("--charts", type=Path, help="folder for transfer-<task>.svg")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.tasks:
        changes = {key: getattr(arguments, key) for key in ("steps", "train", "held_out")}
        task = Task(**(vars(TASKS[name]) | {key: value for key, value in changes.items() if value}))
        results[name] = measure(name, task)
        if arguments.charts:
            path = arguments.charts / f"transfer-{name}.svg"
            path.write_text(render_charts(charts(name, results[name])), encoding="utf-8")
    print(table(results))
    if arguments.json:
        old = json.loads(arguments.json.read_text("utf-8"))["tasks"] if arguments.json.exists() else {}
        record = {"machine": machine(), "tasks": old | results}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(name: str, task: Task) -> dict[str, Any]:
    """What the run and its control reach; the evaluations of both."""
    with tempfile.TemporaryDirectory() as made:
        folder, begin = Path(made), time.monotonic()
        rows = {part: list(task_rows(name, task, part)) for part in ("train", "valid")}
        write(folder / "right", rows["train"], rows["valid"])
        write(folder / "shuffled", shuffled(rows["train"]), rows["valid"])
        drawn = time.monotonic() - begin
        right, shuffled_ = (taught(name, task, folder / kind) for kind in ("right", "shuffled"))
    return {"steps": task.steps, "train": task.train, "held_out": task.held_out} | {
        "seconds_to_draw": round(drawn, 1),
        "right": right,
        "shuffled": shuffled_,
    }


def task_rows(name: str, task: Task, part: str) -> Iterator[Row]:
    first, count = (0, task.train) if part == "train" else (task.train, task.held_out)
    for index in range(first, first + count):
        yield task.example(random_for(f"transfer {name}", OTHER_STYLE_SPLIT, index))


def shuffled(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with the picture of another one."""
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    giver = dict(zip(order, order[1:] + order[:1], strict=True))
    return [Row(rows[giver[i]].pixels, row.prefix, row.suffix) for i, row in enumerate(rows)]


def write(folder: Path, train: Sequence[Row], valid: Sequence[Row]) -> None:
    """Roboflow's JSONL, and the pictures beside it."""
    folder.mkdir()
    for part, rows in (("train", train), ("valid", valid)):
        lines = []
        for index, row in enumerate(rows):
            name = f"{part}{index:04d}.png"
            Image.fromarray(row.pixels).save(folder / name, compress_level=1)
            lines.append(json.dumps({"image": name, "prefix": row.prefix, "suffix": row.suffix}))
        (folder / f"_annotations.{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def taught(name: str, task: Task, data: Path) -> dict[str, Any]:
    """One transfer with the recipe of the small model, evaluated eight times on the way."""
    every = max(1, task.steps // 8)
    settings = (
        f"training.steps={task.steps}",
        f"evaluation.every={every}",
        "evaluation.max_new_tokens=16",
        "evaluation.keep=last",
    )
    config = configure("tiny", data, data.with_name(f"{data.name}_model"), settings=settings)

    def say(evaluation: Evaluation) -> None:
        print(
            f"{name}, {data.name}: step {evaluation.step}, score {evaluation.score:.3f}, "
            f"loss {evaluation.loss:.3f}",
            flush=True,
        )

    begin = time.monotonic()
    report = transfer.run(config, lambda name, progress: None, on_evaluation=say)
    seconds = time.monotonic() - begin
    start = json.loads((config.run_folder / "start.json").read_text(encoding="utf-8"))["evaluation"]
    lines = [start, *read_log(config.run_folder, EVALUATIONS)]
    return {
        "metric": report.metric,
        "before": report.before,
        "after": report.after,
        "seconds": round(seconds, 1),
        "evaluations": [{key: line[key] for key in ("step", "score", "loss")} for line in lines],
    }


def charts(name: str, result: dict[str, Any]) -> tuple[Chart, Chart]:
    """Held-out score and loss by the update, with the control beside them."""
    curves = {key: [points(result[kind], key) for kind in ("right", "shuffled")] for key in ("score", "loss")}
    score, loss = curves["score"], curves["loss"]
    return (
        Chart(title=f"{name}: {result['right']['metric']}", points=score[0], control=score[1]),
        Chart(title=f"{name}: loss, held out", points=loss[0], control=loss[1], is_log=True),
    )


def points(run: dict[str, Any], key: str) -> tuple[Point, ...]:
    return tuple((line["step"], line[key]) for line in run["evaluations"])


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| task | metric | before | after | after, pictures shuffled | updates | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results.items():
        right, shuffled_ = result["right"], result["shuffled"]
        scores = " | ".join(f"{each:.3f}" for each in (right["before"], right["after"], shuffled_["after"]))
        lines.append(
            f"| {name} | {right['metric']} | {scores} | {result['steps']} | {right['seconds']:.0f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, object]:
    return {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
