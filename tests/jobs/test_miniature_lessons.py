from paligemma2 import tasks
from paligemma2.jobs.miniature_lessons import LESSONS, lesson_of


def test_ten_tasks_of_different_kinds_are_learned():
    assert len(LESSONS) == 10
    assert set(LESSONS) <= set(tasks.names())
    kinds = {tasks.load(name).miniature for name in LESSONS}
    assert {
        "question",
        "yes_no",
        "count",
        "choice",
        "read",
        "caption",
        "pair",
        "refer",
        "video_question",
    } <= kinds


def test_zero_shot_tasks_have_no_lesson():
    assert not any(tasks.load(name).transfer_from for name in LESSONS)


def test_other_tasks_are_only_walked_through():
    assert lesson_of("chartqa").steps < min(lesson.steps for lesson in LESSONS.values())
    assert lesson_of("chartqa").work < lesson_of("gqa").work < lesson_of("nlvr2").work
