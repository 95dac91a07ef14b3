from pathlib import Path

import pytest

from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.task import Row
from paligemma2.jobs.evaluate_config import EvaluateConfig, chosen_rows, task_name
from tests.small_task import EQUAL, small_task


def config(**changes):
    given = {"models": ("tiny",), "tasks": ("vqav2",), "data": Path("data"), "output": Path("runs")}
    return EvaluateConfig(**(given | changes))


def test_each_model_and_control_has_a_folder_of_its_own():
    assert config().folder("google/paligemma2-3b-ft-docvqa-448", "docvqa") == Path(
        "runs/paligemma2-3b-ft-docvqa-448/docvqa"
    )
    spoiled = config(control="shuffled pictures")
    assert spoiled.folder("tiny", "my/task.py") == Path("runs/tiny+shuffled-pictures/task")
    alike = config(models=("a/model", "b/model.npz"))
    assert len({alike.folder(model, "vqav2") for model in alike.models}) == 2


def test_the_data_of_a_task_is_the_folder_called_like_it_or_all_of_it(tmp_path):
    (tmp_path / "vqav2").mkdir()
    assert config(data=tmp_path).data_source("vqav2") == tmp_path / "vqav2"
    assert config(data=str(tmp_path)).data_source("gqa") == str(tmp_path)
    assert config(data=tmp_path / "vqav2").data_source("vqav2") == tmp_path / "vqav2"
    (tmp_path / "vqav2" / "vqav2").mkdir()
    assert config(data=tmp_path / "vqav2").data_source("vqav2") == tmp_path / "vqav2"
    assert config(data="lmms-lab/GQA").data_source("gqa") == "lmms-lab/GQA"


def test_a_task_in_a_file_is_called_like_the_file():
    assert (task_name("vqav2"), task_name("x/my_task.py")) == ("vqav2", "my_task")


TASK = small_task(
    rows=(
        Row(title="both", splits=("val", "train"), metric=EQUAL),
        Row(title="one", splits=("val",), metric=EQUAL),
    ),
    test_split="train",
)


def test_splits_choose_the_rows_that_they_give():
    assert chosen_rows(TASK, ()) == (TASK.rows, ())
    assert chosen_rows(TASK, ("val",)) == (TASK.rows[1:], ())
    assert chosen_rows(TASK, ("train",)) == ((), ("train",))
    with pytest.raises(InputError, match="Colours has no row of nowhere"):
        chosen_rows(TASK, ("nowhere",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": ()},
        {"tasks": ("a", "a")},
        {"batch_size": 0},
        {"limit": 0},
        {"protocol": "x"},
        {"bootstrap_samples": 0},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError):
        config(**wrong)
