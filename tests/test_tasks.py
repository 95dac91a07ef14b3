"""Every task reads its fixture, asks and answers what is recorded, and is scored as it should be.

`tests/tasks/fixtures/<task>/` holds some records in the format of the data set's own files, `source.txt` with
where their fields come from, and `expected.json`: of each split the ids, prompts and right answers.
"""

import contextlib
import csv
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from paligemma2 import tasks
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.data.readers.records import Record
from paligemma2.errors import DataError, InputError
from paligemma2.evaluation.examples import EvaluationExample, TaskExamples, read_examples
from paligemma2.evaluation.open_data import open_data
from paligemma2.evaluation.task import COLUMNS, Row, Task, parse_splits
from paligemma2.model.config import preset
from paligemma2.processing.image import open_image
from paligemma2.training.recipes import transfer_recipe
from paligemma2.types import Clip

FIXTURES = Path(__file__).parent / "tasks" / "fixtures"
CARD = Path(__file__).parent / "tasks" / "card.csv"
WRONG = (..., None, 3, -5, 1.5, "x", [], {}, [None])
MOST_CHANGES = 40
MINE = """
from tests.small_task import small_task

TASK = small_task()
"""


@pytest.mark.parametrize("name", tasks.names())
def test_every_task(name: str) -> None:
    task, folder = tasks.load(name), FIXTURES / name
    assert (folder / "source.txt").is_file(), "say where the fields of the records come from"
    recorded = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    assert scored_splits(task) <= recorded.keys() <= task.splits.keys()
    data = DataFolder(folder)
    for split, expected in recorded.items():
        found = read_examples(task, split, data)
        assert found.missing == ()
        assert [asked(each) for each in found.examples] == expected
        check_pictures(found)
    for row in task.rows:
        check_scores(task, row, data)
        assert row.published == card().get(row.title, (None,) * 6)
    check_recipe(name, task)


@pytest.mark.parametrize("name", tasks.names())
def test_malformed_files_are_told(name: str, tmp_path: Path) -> None:
    """Whatever is missing or of another kind in a file, no other error comes than one for the user."""
    folder = Path(shutil.copytree(FIXTURES / name, tmp_path / "data"))
    every = (path for path in sorted(folder.rglob("*")) if path.name != "expected.json")
    files = [path for path in every if path.suffix in (".json", ".jsonl")]
    changes = [(path, place) for path in files for place in places_in(content_of(path))]
    task, rng = tasks.load(name), random.Random(name)
    for path, place in rng.sample(changes, min(len(changes), MOST_CHANGES)):
        text = path.read_text(encoding="utf-8")
        path.write_text(written(changed(content_of(path), place, rng.choice(WRONG)), path), encoding="utf-8")
        for split in task.splits:
            with contextlib.suppress(DataError, InputError):
                read_examples(task, split, DataFolder(folder))
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in tasks.names() if tasks.load(name).hub])
def test_the_tables_of_the_hub_give_the_same_examples(name: str, tmp_path: Path) -> None:
    """The rows of the fixture in tables with the columns that the task reads, in parts of two rows."""
    task = tasks.load(name)
    assert task.hub is not None
    data, tables = DataFolder(FIXTURES / name), dict[str, list[dict[str, Any]]]()
    for split, reader in task.hub.splits.items():
        records = list(task.splits[split].read(data))
        tables.setdefault(reader.files, []).extend(hub_row(record, reader, data) for record in records)
    for pattern, rows in tables.items():
        path = tmp_path / pattern.replace("*", "00000-of-00001")
        path.parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    from_hub, folder = open_data(task, tmp_path)
    for split in task.hub.splits:
        found = read_examples(from_hub, split, folder)
        assert [asked(each) for each in found.examples] == [
            asked(each) for each in read_examples(task, split, data).examples
        ]
        check_pictures(found)


def hub_row(record: Record, reader: ParquetRecords, data: DataFolder) -> dict[str, Any]:
    (picture,) = record.pictures
    assert isinstance(picture, str)
    encoded = BytesIO()
    open_image(data.image(picture)).save(encoded, "PNG")  # type: ignore[arg-type]
    row = {**record.fields, "image": {"bytes": encoded.getvalue(), "path": None}, **reader.where}
    return row | ({reader.id: record.id} if reader.id else {})


def content_of(path: Path) -> Any:
    """What a file of JSON holds; of one with an object on each line their list."""
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def written(content: Any, path: Path) -> str:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return "".join(json.dumps(row) + "\n" for row in content)
    return json.dumps(content)


def places_in(content: Any, depth: int = 4) -> Iterator[tuple[Any, ...]]:
    """Where values stand in JSON, as keys one after the other; of a list only the first is looked at."""
    keys = content.keys() if isinstance(content, dict) else range(min(len(content), 1))
    for key in keys:
        yield (key,)
        if depth and isinstance(content[key], dict | list):
            yield from ((key, *rest) for rest in places_in(content[key], depth - 1))


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The content with another value at a place; with none where the value is `...`."""
    at = content
    for key in place[:-1]:
        at = at[key]
    if value is ...:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return content


def scored_splits(task: Task) -> set[str]:
    return {part.name for row in task.rows for text in row.splits for part in parse_splits(text)}


def asked(each: EvaluationExample) -> dict[str, Any]:
    """An example as `expected.json` records it; right answers to score by only where they are others."""
    example = each.example
    suffixes = example.answers or (() if example.suffix is None else (example.suffix,))
    record = {"id": example.id, "prefix": example.prefix, "suffixes": list(suffixes)}
    if each.reference.answers != suffixes:
        record["references"] = list(each.reference.answers)
    return record


def check_pictures(found: TaskExamples) -> None:
    for each in found.examples:
        assert each.example.images
        for image in each.example.images:
            if not isinstance(image, Clip):
                open_image(image)


def check_scores(task: Task, row: Row, data: DataFolder) -> None:
    """A predictor that knows the answers reaches the most there is, one that says nothing does not."""
    if row.metric.reads_masks:
        return  # the answers are masks; `tests/metrics/test_segmentation.py` scores them
    for split in row.splits:
        references = [each.reference for each in read_examples(task, split, data).examples]
        right = [Counter(reference.answers).most_common(1)[0][0] for reference in references]
        best = row.metric(right, references).value
        assert best >= 1.0
        assert row.metric([""] * len(right), references).value < best


def card() -> dict[str, tuple[float | None, ...]]:
    rows = csv.DictReader(line for line in CARD.read_text().splitlines() if not line.startswith("#"))
    return {row["row"]: tuple(float(row[name]) if row[name] else None for name in COLUMNS) for row in rows}


def check_recipe(name: str, task: Task) -> None:
    if task.recipe is None:
        assert task.transfer_from in tasks.names()
        return
    assert task.recipe.text_length == task.text_length


@pytest.mark.parametrize(
    ("name", "pixels", "expected"),
    [
        ("infovqa", 224, {"batch_size": 256, "weight_decay": 1e-6, "label_smoothing": 0.4}),
        ("infovqa", 896, {"batch_size": 32, "weight_decay": 3e-7}),
        ("refcoco", 224, {"dropout": 0.1, "label_smoothing": 0.3, "batch_size": 256}),
        ("refcoco", 448, {"dropout": 0.0, "label_smoothing": 0.3, "batch_size": 256}),
        ("refcoco", 896, {"batch_size": 64}),
        ("gqa", 224, {"freeze": ()}),
        ("gqa", 448, {"freeze": ("image",)}),
        ("scienceqa", 224, {"freeze": ("image",), "batch_size": 128}),
        ("screen2words", 448, {"dropout": 0.3, "label_smoothing": 0.2}),
    ],
)
def test_hyper_parameters_are_those_of_the_paper_for_each_resolution(
    name: str, pixels: int, expected: dict[str, object]
) -> None:
    row = tasks.load(name).recipe
    assert row is not None
    recipe = transfer_recipe(name, row, preset(f"paligemma2-3b-pt-{pixels}")).training
    assert {key: getattr(recipe, key) for key in expected} == expected


@pytest.mark.golden
@pytest.mark.parametrize("name", tasks.names())
def test_learning_rates_are_the_best_of_the_sweep_for_each_size(shared: Path, name: str) -> None:
    """The best mean over the rows of the transfer, the smaller of equal ones; others are told beside."""
    recipe = tasks.load(name).recipe
    if recipe is None:
        return
    table = json.loads((shared / "spec" / "pg2_lr_sweep_table14.json").read_text())
    titles = {row.title for row in tasks.load(name).rows}
    titles |= {title.partition(" (")[0] for title in titles}
    rows = [row for row in table["rows"] if row["task"] in titles]
    assert rows
    for size, rate, others in zip(("3B", "10B", "28B"), recipe.paligemma2, recipe.alternatives, strict=True):
        scores = [row[size]["scores"] for row in rows if size in row]
        if not scores:
            assert (rate, others) == (None, ())
            continue
        means = [fmean(column) for column in zip(*scores, strict=True)]
        assert rate == best_rates(means, table["learning_rates"])[0]
        best = {each for row in (means, *scores) for each in best_rates(row, table["learning_rates"])}
        assert set(others) == best - {rate}


def best_rates(scores: list[float], rates: list[float]) -> list[float]:
    return [
        rate
        for rate, score in zip(rates, scores, strict=True)
        if score == pytest.approx(max(scores), abs=1e-9)
    ]


def test_a_task_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert tasks.load(str(tmp_path / "mine.py")).title == "Colours"


def test_an_unknown_task_is_told() -> None:
    with pytest.raises(InputError, match="no task 'tallyq'"):
        tasks.load("tallyq")


@pytest.mark.parametrize("text", ["TASK = 3", "import no_such_module", "", "TASK = ("])
def test_a_file_without_a_task_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=r"mine\.py"):
        tasks.load(str(tmp_path / "mine.py"))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        tasks.load(str(tmp_path / "none.py"))
