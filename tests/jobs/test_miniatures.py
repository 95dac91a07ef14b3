import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.result import TaskResult, read_results
from paligemma2.jobs import miniatures
from paligemma2.jobs.miniature_lessons import LESSONS, Lesson
from paligemma2.jobs.miniatures import MiniaturesConfig, MiniaturesReport, run

GLANCE = Lesson(steps=1, batch_size=2, training_examples=3, examples=3)
NAMES = ("rsvqa_lr", "countbenchqa")
"""Learned in the real run, with its controls; and zero-shot, which brings TallyQA with it."""


@pytest.fixture(scope="module")
def short() -> Iterator[None]:
    """Lessons of a single update."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(miniatures, "lesson_of", lambda name: GLANCE)
        patch.setattr(miniatures, "LESSONS", {"rsvqa_lr": GLANCE})
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("miniatures")


@pytest.fixture(scope="module")
def told() -> list[str]:
    """The tasks in the order in which they were told to be done."""
    return []


@pytest.fixture(scope="module")
def report(short: None, folder: Path, told: list[str]) -> MiniaturesReport:
    config = MiniaturesConfig(output=folder, tasks=NAMES, processes=1)
    return run(config, lambda score: told.append(score.task))


def test_tasks_walk_from_data_to_the_report(report: MiniaturesReport, told: list[str]) -> None:
    assert [each.task for each in report.scores] == sorted(told) == ["countbenchqa", "rsvqa_lr", "tallyqa"]
    page = report.page.read_text(encoding="utf-8")
    assert all(title in page for title in ("RSVQA-lr", "CountBenchQA", "TallyQA (simple)"))
    assert miniatures.SHUFFLED in page
    assert miniatures.RANDOM_WEIGHTS in page


def test_learned_tasks_alone_have_controls(report: MiniaturesReport, folder: Path) -> None:
    controls = {each.task: [result.control for result in each.controls] for each in report.scores}
    both = [miniatures.SHUFFLED, miniatures.RANDOM_WEIGHTS]
    assert controls == {"countbenchqa": [], "rsvqa_lr": both, "tallyqa": []}
    written = [(result.task, result.control) for result in read_results(folder / "runs") if result.control]
    assert sorted(written) == [("rsvqa_lr", control) for control in reversed(both)]


def test_a_zero_shot_task_is_asked_of_the_model_of_another(report: MiniaturesReport) -> None:
    assert report.scores[0].result.model.endswith("models/tallyqa/tiny")


def test_a_second_run_goes_on_from_the_first(report: MiniaturesReport, folder: Path) -> None:
    model = folder / "models" / "rsvqa_lr" / "tiny" / "model.safetensors"
    written = model.stat().st_mtime_ns
    second = run(MiniaturesConfig(output=folder, tasks=("rsvqa_lr",), processes=1))
    assert model.stat().st_mtime_ns == written
    assert second.scores[0].result.rows == report.scores[1].result.rows
    assert [each.control for each in second.scores[0].controls] == [
        each.control for each in report.scores[1].controls
    ]


def test_an_interval_has_to_lie_above_those_of_all_controls(report: MiniaturesReport) -> None:
    score = report.scores[1]
    (row,) = score.result.rows

    def with_interval(low: float, high: float) -> TaskResult:
        return replace(score.result, rows=(replace(row, interval=(low, high)),))

    ours, low, high = with_interval(0.5, 0.7), with_interval(0.1, 0.4), with_interval(0.2, 0.55)
    assert replace(score, result=ours, controls=(low, low)).is_above_controls
    assert not replace(score, result=ours, controls=(high, low)).is_above_controls


def test_several_processes_share_the_tasks(tmp_path: Path) -> None:
    names = ("screen2words", "chartqa")  # which have short lessons in other processes, too
    done = run(MiniaturesConfig(output=tmp_path, tasks=names, processes=2))
    assert [each.task for each in done.scores] == ["chartqa", "screen2words"]


def test_what_makes_no_sense_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="processes is 0"):
        MiniaturesConfig(output=tmp_path, processes=0)
    with pytest.raises(InputError, match="no task 'nonsense'"):
        run(MiniaturesConfig(output=tmp_path, tasks=("nonsense",), processes=1))


def test_a_fast_task_is_learned_by_looking_at_the_pictures(tmp_path: Path) -> None:
    (score,) = run(MiniaturesConfig(output=tmp_path, tasks=("gqa",), processes=1)).scores
    assert score.result.rows[0].value > 0.85
    assert score.is_above_controls


@pytest.mark.slow
def test_all_ten_are_learned_and_the_whole_run_is_short(tmp_path: Path) -> None:
    report = run(MiniaturesConfig(output=tmp_path))
    learned = {each.task: each for each in report.scores if each.controls}
    assert set(learned) == set(LESSONS)
    summary = {
        name: [round(100 * result.rows[0].value, 1) for result in (each.result, *each.controls)]
        for name, each in learned.items()
    }
    assert [name for name, each in learned.items() if not each.is_above_controls] == [], json.dumps(summary)
    assert report.seconds < 15 * 60
