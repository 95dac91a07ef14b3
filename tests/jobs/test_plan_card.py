import dataclasses

import pytest

from paligemma2.errors import ConfigError
from paligemma2.evaluation.task import Download, Frames, Row, Task
from paligemma2.jobs.plan_card import PlanCardConfig, TaskPlan, eval_examples, num_pictures, run
from tests.small_results import task_with
from tests.small_task import EQUAL, RECIPE, small_task

IMAGES = Download(what="pictures", url="https://example.org/images", licence="CC BY 4.0", gigabytes=2.5)
TEXTS = Download(what="questions", url="https://example.org/texts", licence="not stated")
CONFIG = PlanCardConfig()


def planned(task: Task, config: PlanCardConfig = CONFIG) -> TaskPlan:
    (plan,) = run(config, {"colours": task}).tasks
    return plan


def test_training_sees_the_examples_once_in_each_epoch() -> None:
    once = planned(task_with(num_train=1000, recipe=dataclasses.replace(RECIPE, epochs=1)))
    thrice = planned(task_with(num_train=1000, recipe=dataclasses.replace(RECIPE, epochs=3)))
    assert (once.train_examples, thrice.train_examples) == (1000, 3000)
    assert once.training is not None
    assert thrice.training is not None
    assert thrice.training.gpu_hours == pytest.approx(3 * once.training.gpu_hours)
    rough = 1000 * 6 * (2.02e9 * 289 + 0.41e9 * 256 + 0.6e9 * 32) / (0.4 * 989e12) / 3600
    assert once.training.gpu_hours == pytest.approx(rough, rel=0.1)


def test_what_no_source_counts_is_left_open() -> None:
    plan = planned(task_with())
    assert (plan.train_examples, plan.training) == (None, None)
    assert plan.eval_examples == 6
    assert plan.evaluation is not None
    row = Row(title="Colours", splits=("val",), metric=EQUAL, published=(1.0, None, None, None, None, None))
    assert planned(small_task(rows=(row,))).evaluation is None


def test_a_frozen_image_encoder_and_another_size_change_the_hours() -> None:
    task = task_with(num_train=1000)
    frozen = task_with(num_train=1000, recipe=dataclasses.replace(RECIPE, is_image_frozen=True))
    large = planned(task, PlanCardConfig(size="10b"))
    slow = planned(task, PlanCardConfig(device="a100"))
    plans = [each.training for each in (planned(frozen), planned(task), large, slow)]
    hours = [each.gpu_hours for each in plans if each is not None]
    assert hours[0] < hours[1] < hours[2]
    assert hours[3] == pytest.approx(hours[1] * 989 / 312)


def test_a_task_without_a_number_in_the_column_is_left_out() -> None:
    plan = run(PlanCardConfig(resolution=448), {"colours": task_with()})
    assert (plan.tasks, plan.left_out) == ((), ("Colours",))


def test_totals_and_places_to_fetch_from_are_counted_once() -> None:
    first = task_with(num_train=100, downloads=(IMAGES, TEXTS))
    second = task_with(
        "Others", title="Others", num_train=100, downloads=(IMAGES,), exact=False, inexact_reason="?"
    )
    plan = run(CONFIG, {"a": first, "b": second})
    assert [each.name for each in plan.tasks] == ["a", "b"]
    assert plan.downloads == (IMAGES, TEXTS)
    assert [each.inexact_reason for each in plan.tasks] == ["", "?"]
    (training, evaluation) = (plan.tasks[0].training, plan.tasks[0].evaluation)
    assert training is not None
    assert evaluation is not None
    assert plan.training_hours == pytest.approx(2 * training.gpu_hours)
    assert plan.evaluation_hours == pytest.approx(2 * evaluation.gpu_hours)


def test_a_zero_shot_task_is_only_evaluated() -> None:
    plan = planned(task_with(train="", recipe=None, transfer_from="other", num_train=None))
    assert plan.training is None
    assert plan.transfer_from == "other"
    assert plan.evaluation is not None


def test_pictures_and_examples_of_a_task() -> None:
    assert num_pictures(task_with()) == 1
    assert num_pictures(task_with(num_pictures=2)) == 2
    assert num_pictures(task_with(frames=Frames(count=16, stride=9))) == 16
    rows = [Row(title=name, splits=("val",), metric=EQUAL, num_examples=5) for name in "ab"]
    other = Row(title="c", splits=("train",), metric=EQUAL, num_examples=3)
    assert eval_examples(small_task(rows=(*rows, other))) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "9b"}, "no column 224-9B"),
        ({"resolution": 896}, "no column 896-3B"),
        ({"device": "cpu"}, "device is 'cpu'"),
        ({"utilisation": 0.0}, "utilisation is 0.0"),
    ],
)
def test_what_the_card_does_not_have_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlanCardConfig(**changes)  # type: ignore[arg-type]
