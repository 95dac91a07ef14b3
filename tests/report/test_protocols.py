import dataclasses
from pathlib import Path

import pytest

from paligemma2 import tasks
from paligemma2.errors import InputError
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Frames, Row
from paligemma2.report.protocols import BEGIN, protocols, with_protocols
from tests.small_results import task_with
from tests.small_task import EQUAL, RECIPE, small_task

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def test_the_page_is_what_the_tasks_say_run_make_docs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_protocols(page, {name: tasks.load(name) for name in tasks.names()})


def test_the_head_of_a_page_stays() -> None:
    page = with_protocols(f"# Head\n\n{BEGIN}\nold", {"colours": task_with()})
    assert page.startswith(f"# Head\n\n{BEGIN}\n\n## All rows\n")
    assert "old" not in page
    assert with_protocols(page, {"colours": task_with()}) == page
    with pytest.raises(InputError):
        with_protocols("# Head", {})


def test_a_row_tells_prompt_split_metric_and_whether_it_is_exact() -> None:
    inexact = task_with("Shapes", exact=False, inexact_reason="the list is not public")
    text = protocols({"colours": task_with(), "shapes": inexact})
    assert (
        "| Colours (val) | [colours](#colours) | `answer en {question}` | `val` | equality | yes |"
        in text.splitlines()
    )
    assert (
        "| Shapes | [shapes](#shapes) | `answer en {question}` | `val` | equality | no |" in text.splitlines()
    )
    assert "- Exact: the list is not public." in text.splitlines()


def test_a_task_tells_its_numbers_training_and_rules() -> None:
    recipe = dataclasses.replace(
        RECIPE,
        epochs=(3, 10, 10),
        weight_decay=1e-6,
        label_smoothing=0.2,
        is_image_frozen=(False, True, True),
        paligemma2=(3e-6, 1e-6, None),
        alternatives=((1e-5,), (), ()),
    )
    text = protocols({"colours": task_with(num_train=4321, recipe=recipe, tune=("train", "val"))})
    assert "| Colours (val) | 6 | 68.0 | 72.0 | – | – | – | – |" in text.splitlines()
    training = next(line for line in text.splitlines() if line.startswith("- Training"))
    assert training == (
        "- Training: on `train` (4,321 examples), 3 / 10 / 10 (224 / 448 / 896 pixels) epochs, batches of 4, "
        "learning rate 3e-06 (3B; also 1e-05), 1e-06 (10B), weight decay 1e-06, label smoothing 0.2, "
        "image encoder frozen at 448 and 896 pixels; hyper-parameters chosen on `val` after `train`."
    )
    assert "- Logits: no soft-cap on the output, soft-cap 50 and no window on the attention." in text
    assert "- Answer: right is `Field(name='answer')`; decoded greedy, at most 32 tokens." in text
    assert "- Metric, equality: this test; one rule for both modes." in text


def test_videos_beams_antialias_and_the_test_server_are_told() -> None:
    task = task_with(
        frames=Frames(count=16, stride=9),
        beams=3,
        antialias=False,
        train_antialias=True,
        references=Field("answer", lower=True),
        test_split="val",
        downloads=(Download(what="all", url="https://example.org/a", licence="MIT", gigabytes=2),),
        notes=("One thing is in doubt.",),
    )
    text = protocols({"colours": task})
    assert "16 frames of a video, the first and each 9th after it, squashed" in text
    assert "without antialias; in training with antialias." in text
    assert "trained on `Field(name='answer')`, scored by `Field(name='answer', lower=True)`;" in text
    assert "; decoded with a beam of 3, at most 32 tokens." in text
    assert "the right answers of `val` are not public" in text
    assert "- To fetch: all, 2 GB, licence: MIT (<https://example.org/a>)." in text
    assert text.endswith("- One thing is in doubt.\n")


def test_a_zero_shot_task_names_the_model_it_asks() -> None:
    text = protocols({"colours": task_with(train="", recipe=None, transfer_from="shapes")})
    assert "- Training: none, zero-shot with the model of [shapes](#shapes)." in text


def test_spaces_and_single_epochs_are_told_as_they_are() -> None:
    task = task_with(prefix="answer en  {question}", recipe=dataclasses.replace(RECIPE, epochs=1))
    text = protocols({"colours": task})
    assert text.count("`answer en  {question}`") == 2
    assert "on `train`, 1 epoch, batches" in text


def test_many_splits_and_odd_prompts_fit_into_the_table() -> None:
    rows = (Row(title="All", splits=("val",) * 5, metric=EQUAL),)
    text = protocols({"colours": small_task(rows=rows, prefix="Question: {q}\nA|B:\t")})
    assert "| `Question: {q}\\nA\\|B:\\t` | `val` … `val`, the mean of 5 |" in text
