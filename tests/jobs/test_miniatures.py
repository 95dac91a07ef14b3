import json
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.result import read_results
from paligemma2.jobs import miniatures
from paligemma2.jobs.miniature_lessons import LESSONS, Lesson
from paligemma2.jobs.miniatures import MiniaturesConfig, MiniatureScore, run


@pytest.fixture
def short(monkeypatch):
    """Lessons of a single update, for all tasks."""
    glance = Lesson(steps=1, batch_size=2, training_examples=3, examples=3)
    monkeypatch.setattr(miniatures, "lesson_of", lambda name: glance)


def test_a_task_walks_from_data_to_the_report_with_its_controls(short, tmp_path):
    scores: list[MiniatureScore] = []
    report = run(MiniaturesConfig(output=tmp_path, tasks=("okvqa",), processes=1), scores.append)
    assert [each.task for each in scores] == ["okvqa"]
    assert report.scores == tuple(scores)
    controls = [result.control for result in read_results(tmp_path / "runs")]
    assert sorted(controls) == ["", miniatures.RANDOM_WEIGHTS, miniatures.SHUFFLED]
    page = report.page.read_text(encoding="utf-8")
    assert "OKVQA" in page
    assert miniatures.SHUFFLED in page


def test_a_second_run_goes_on_from_the_first(short, tmp_path):
    config = MiniaturesConfig(output=tmp_path, tasks=("chartqa",), processes=1)
    first = run(config)
    model = tmp_path / "models" / "chartqa" / "tiny" / "model.safetensors"
    written = model.stat().st_mtime_ns
    second = run(config)
    assert model.stat().st_mtime_ns == written
    assert [each.result.rows for each in second.scores] == [each.result.rows for each in first.scores]


def test_a_zero_shot_task_is_asked_of_the_model_of_another(short, tmp_path):
    report = run(MiniaturesConfig(output=tmp_path, tasks=("xgqa",), processes=1))
    assert [each.task for each in report.scores] == ["gqa", "xgqa"]
    assert report.scores[1].result.model.endswith("models/gqa/tiny")
    assert report.scores[1].controls == ()


def test_several_processes_find_the_same(short, tmp_path):
    # Lessons are as they are in other processes: these tasks have short ones.
    names = ("screen2words", "chartqa")
    values = []
    for processes in (1, 2):
        config = MiniaturesConfig(output=tmp_path / str(processes), tasks=names, processes=processes)
        report = run(config)
        values.append([each.task for each in report.scores])
    assert values[0] == values[1] == ["chartqa", "screen2words"]


def test_an_interval_has_to_lie_above_those_of_all_controls(short, tmp_path):
    (score,) = run(MiniaturesConfig(output=tmp_path, tasks=("rsvqa_lr",), processes=1)).scores
    (row,) = score.result.rows

    def with_interval(low, high):
        return replace(score.result, rows=(replace(row, interval=(low, high)),))

    ours, low, high = with_interval(0.5, 0.7), with_interval(0.1, 0.4), with_interval(0.2, 0.55)
    assert replace(score, result=ours, controls=(low, low)).is_above_controls
    assert not replace(score, result=ours, controls=(low, high)).is_above_controls


def test_what_makes_no_sense_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="processes is 0"):
        MiniaturesConfig(output=tmp_path, processes=0)
    with pytest.raises(InputError, match="no task 'nonsense'"):
        run(MiniaturesConfig(output=tmp_path, tasks=("nonsense",), processes=1))


def test_a_fast_task_is_learned_and_not_without_pictures(tmp_path: Path) -> None:
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
