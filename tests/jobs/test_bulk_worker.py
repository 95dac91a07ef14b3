import json
import math
import os
from pathlib import Path

import pytest

from paligemma2.errors import InputError
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.bulk_asking import PromptAsker
from paligemma2.jobs.bulk_output import BulkOutput
from paligemma2.jobs.bulk_sources import BulkRow, Unit, find_sources, from_table, read_units, to_table
from paligemma2.jobs.bulk_worker import BulkWorker, answer_rows, told
from paligemma2.types import Decoding
from tests.jobs.small_shards import BROKEN, QUESTION, fields, picture, sound_members, write_data, write_shard
from tests.small_adapter import save_random_adapter
from tests.small_model import save_small_model, small_config

SHORT = Decoding(max_new_tokens=4)
PROMPT = "answer en {question}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("bulk") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> PaliGemma2:
    return load(folder)


def row(number: int, **more: object) -> BulkRow:
    return BulkRow(
        source=f"a.tar#{number}",
        id=str(number),
        images=(picture(number),),
        fields=json.dumps({**fields(number), **more}),
    )


def asking(folder: Path, **more: object) -> PromptAsker:
    given = {"prompt": PROMPT, "model": str(folder), "decoding": SHORT, "batch_size": 2}
    return PromptAsker(**{**given, **more})  # type: ignore[arg-type]


def test_answers_are_those_of_the_model(folder: Path, model: PaliGemma2) -> None:
    rows = [row(number) for number in range(5)]
    predictions, problems = answer_rows(model, asking(folder), rows)
    assert problems == []
    for each, prediction in zip(rows, predictions, strict=True):
        alone = model.generate(each.images[0], f"answer en {QUESTION}", 4)[0]
        assert prediction.prediction == alone.text
        assert prediction.finish_reason == alone.finish_reason
        assert prediction.log_prob == pytest.approx(math.fsum(alone.log_probs), abs=1e-4)
        assert (prediction.source, prediction.id, prediction.fields) == (each.source, each.id, each.fields)
        assert prediction.prompt == f"answer en {QUESTION}"


def test_what_cannot_be_asked_does_not_hold_up_the_others(folder: Path, model: PaliGemma2) -> None:
    broken = BulkRow(source="a.tar#7", id="7", images=(BROKEN,), fields=json.dumps(fields(7)))
    rows = [row(0), broken, row(1, question=None), row(2, question="cat " * 600), row(3)]
    predictions, problems = answer_rows(model, asking(folder, batch_size=5), rows)
    assert [prediction.source for prediction in predictions] == ["a.tar#0", "a.tar#3"]
    assert {(problem.source, problem.reason) for problem in problems} == {
        ("a.tar#7", "the picture cannot be read"),
        ("a.tar#1", "the row lacks a field of the prompt"),
        ("a.tar#2", "the row cannot be asked about"),
    }
    assert any("context" in problem.detail for problem in problems)


def test_a_unit_is_answered_once(folder: Path, tmp_path: Path) -> None:
    source = find_sources(str(write_data(tmp_path / "data")))[0]
    unit, *_ = read_units(source, 100)
    worker = BulkWorker(asking(folder), str(tmp_path / "out"))
    first, again = worker.do(unit), worker.do(unit)
    assert (first.was_there, again.was_there) == (False, True)
    assert (
        (first.num_predictions, first.num_problems) == (again.num_predictions, again.num_problems) == (10, 2)
    )
    assert first.process == os.getpid()
    output = BulkOutput(str(tmp_path / "out"))
    assert len(list(output.predictions())) == 10
    assert {problem.source for problem in output.problems()} == {"a.tar#10", "a.tar#11"}
    assert list((tmp_path / "out" / "_partial").iterdir()) == []


def test_a_worker_takes_and_gives_tables(folder: Path, tmp_path: Path) -> None:
    (source,) = find_sources(str(write_shard(tmp_path / "x.tar", sound_members(0, 3))))
    (unit,) = read_units(source, 100)
    (line,) = BulkWorker(asking(folder), str(tmp_path / "out"))(to_table(unit))["line"].to_pylist()
    assert (told(line).unit, told(line).num_predictions) == (unit.name, 3)
    assert from_table(to_table(Unit(file="f", number=0))) == [Unit(file="f", number=0)]


def test_an_error_travels_as_it_is(tmp_path: Path) -> None:
    worker = BulkWorker(asking(tmp_path / "none"), str(tmp_path / "out"))
    (line,) = worker(to_table(Unit(file="f", number=0, rows=[row(0)])))["line"].to_pylist()
    with pytest.raises(InputError, match="no checkpoint at") as raised:
        told(line)
    assert raised.value.hint


def test_an_adapter_answers(folder: Path, tmp_path: Path) -> None:
    adapter = save_random_adapter(tmp_path / "adapter", small_config())
    unit = Unit(file="f", number=0, rows=[row(number) for number in range(4)])
    for name, more in (("plain", {}), ("adapted", {"adapter": str(adapter)})):
        BulkWorker(asking(folder, **more), str(tmp_path / name)).do(unit)
    plain, adapted = (list(BulkOutput(str(tmp_path / name)).predictions()) for name in ("plain", "adapted"))
    assert [each.source for each in plain] == [each.source for each in adapted]
    assert [each.log_prob for each in plain] != [each.log_prob for each in adapted]
