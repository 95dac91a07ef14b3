"""A task of two questions about pictures of one colour each."""

import json
from pathlib import Path

from PIL import Image

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Row, Task
from paligemma2.metrics.scores import Metric, Reference, Scores
from paligemma2.training.recipes import TransferRecipe

COLOURS = ("red", "green", "blue")


def _equal(predictions: list[str], references: list[Reference]) -> Scores:
    values = tuple(
        float(text in reference.answers) for text, reference in zip(predictions, references, strict=True)
    )
    return Scores(value=sum(values) / len(values), values=values)


EQUAL = Metric(name="equality", source="this test", paligemma=_equal)
RECIPE = TransferRecipe(
    text_length=32, epochs=2, batch_size=4, learning_rate=1e-4, paligemma2=(3e-6, 1e-6, 1e-6)
)


def small_task(**changes: object) -> Task:
    """The task, with some of its fields changed."""
    given = {
        "title": "Colours",
        "source": "this test",
        "splits": {"train": JsonRecords(file="train.json"), "val": JsonRecords(file="val.json", id="number")},
        "prefix": "answer en {question}",
        "suffix": Field("answer"),
        "rows": (Row(title="Colours (val)", splits=("val",), metric=EQUAL),),
        "text_length": 32,
        "train": "train",
        "recipe": RECIPE,
    }
    return Task(**{**given, **changes})  # type: ignore[arg-type]


def write_colours(folder: Path, count: int = 6) -> Path:
    """The files of the task; returns their folder."""
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    for split in ("train", "val"):
        rows = []
        for number in range(count):
            colour = COLOURS[number % len(COLOURS)]
            name = f"{split}_{number}.png"
            Image.new("RGB", (16, 12), colour).save(pictures / name)
            question = "what color is the picture?"
            rows.append({"number": number + 10, "image": name, "question": question, "answer": colour})
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder
