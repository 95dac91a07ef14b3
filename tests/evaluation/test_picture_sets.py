from paligemma2 import tasks
from paligemma2.evaluation import picture_sets
from paligemma2.evaluation.task import Download

SETS = {name: value for name, value in vars(picture_sets).items() if isinstance(value, Download)}


def test_each_set_is_needed_by_a_task_and_called_one_thing() -> None:
    needed = {download for name in tasks.names() for download in tasks.load(name).downloads}
    assert set(SETS.values()) <= needed
    for each in SETS.values():
        same = [other for other in needed if (other.url, other.what) == (each.url, each.what)]
        assert same == [each]
    assert {each.what for each in needed if "COCO" in each.what and "pictures" in each.what} <= {
        each.what for each in SETS.values()
    }
