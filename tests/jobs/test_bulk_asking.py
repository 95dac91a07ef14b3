import json
from pathlib import Path

import pytest

from paligemma2.data.rows import UnusableRow
from paligemma2.errors import InputError
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.bulk_asking import PromptAsker, TaskAsker, prompt_fields
from paligemma2.jobs.bulk_sources import BulkRow
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.processing.image import Resize
from paligemma2.types import Decoding
from tests.jobs.small_shards import picture
from tests.small_model import save_small_model
from tests.small_task import small_task


def row(**fields: object) -> BulkRow:
    return BulkRow(source="a.tar#0", id="7", images=(picture(0),), fields=json.dumps(fields), unit="a.png")


def task_asker(**changes: object) -> TaskAsker:
    config = EvaluateConfig(models=("tiny",), tasks=("colours",), data=Path(), output=Path(), batch_size=3)
    return TaskAsker(name="colours", task=small_task(**changes), split="val", config=config)


def test_a_prompt_has_fields_of_the_row() -> None:
    asker = PromptAsker(prompt="answer {language} {question[text]} {{}}")
    made = asker.example(row(language="en", question={"text": "what?"})).example
    assert (made.prefix, made.id, made.images) == ("answer en what? {}", "7", (picture(0),))
    assert list(prompt_fields("a {b.c} {d[e]} {f!r:>3} {{g}}")) == ["b", "d", "f"]


@pytest.mark.parametrize("fields", [{}, {"question": None}])
def test_a_row_without_the_field_cannot_be_asked_about(fields: dict[str, object]) -> None:
    for asker in (PromptAsker(prompt="answer en {question}"), task_asker()):
        with pytest.raises(UnusableRow, match="lacks a field of the prompt"):
            asker.example(row(answer="red", **fields))


def test_a_field_of_another_kind_is_told() -> None:
    with pytest.raises(UnusableRow, match="cannot be filled in"):
        PromptAsker(prompt="answer {question[text]}").example(row(question="what?"))


def test_a_task_says_what_is_asked_and_what_is_right() -> None:
    made = task_asker(meta=("kind",)).example(row(question="what?", answer=["red", "dark red"], kind="a"))
    assert made.example.prefix == "answer en what?"
    assert made.reference.answers == ("red", "dark red")
    assert (made.reference.unit, made.reference.meta) == ("a.png", {"kind": "a"})


def test_a_row_without_a_right_answer_is_told() -> None:
    with pytest.raises(UnusableRow, match="no right answer"):
        task_asker().example(row(question="what?"))


def test_a_task_is_asked_under_its_protocol() -> None:
    asker = task_asker(antialias=False, attention_cap=None, beams=2)
    model = asker.load()
    assert isinstance(model, PaliGemma2)
    assert model.config.text.attention_cap is None
    assert model.processor.resize == Resize("bilinear", antialias=False)
    assert (asker.decoding.beams, asker.decoding.max_new_tokens, asker.batch_size) == (2, 32, 3)


def test_what_decides_the_answers_is_the_identity(tmp_path: Path) -> None:
    assert task_asker().identity() == task_asker().identity()
    assert task_asker().identity() != task_asker(prefix="{question}").identity()
    folder = save_small_model(tmp_path / "model")
    asker = PromptAsker(prompt="ocr", model=str(folder))
    assert asker.identity() == PromptAsker(prompt="ocr", model=str(folder), batch_size=1).identity()
    assert asker.identity() != PromptAsker(prompt="ocr", model=str(folder), dtype="bfloat16").identity()
    before = asker.identity()
    (tmp_path / "model").rename(tmp_path / "old")
    save_small_model(tmp_path / "other", seed=1).rename(tmp_path / "model")
    assert asker.identity() != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch size"),
        ({"prompt": "answer {question"}, "cannot be filled in"),
        ({"prompt": "answer {}"}, "names no field"),
        ({"decoding": Decoding(beams=0, method="beam")}, "beams"),
    ],
)
def test_settings_are_checked_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptAsker(**{"prompt": "ocr", **changes})  # type: ignore[arg-type]
