import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.examples import read_examples
from paligemma2.evaluation.task import Row
from paligemma2.jobs.data_make import DataMakeConfig, make, run
from tests.small_task import EQUAL, small_task


def config(tmp_path, **changes):
    return DataMakeConfig(**{"tasks": ("small",), "output": tmp_path / "new", **changes})


def test_every_split_is_drawn_and_no_two_share_a_picture(tmp_path):
    task = small_task(miniature="question")
    made = make(task, name="small", folder=tmp_path / "new", config=config(tmp_path, examples=5))
    assert made.splits == {"train": 5, "val": 5}
    folder = DataFolder(tmp_path / "new")
    found = [read_examples(task, split, folder) for split in ("train", "val")]
    pictures = [{str(each.example.images[0]) for each in split.examples} for split in found]
    assert [len(names) for names in pictures] == [5, 5]
    assert not pictures[0] & pictures[1]
    for each in found[0].examples:
        assert each.example.prefix.startswith("answer en w")
        assert each.reference.answers == (each.example.suffix,)


def test_splits_that_are_only_trained_on_may_be_larger(tmp_path):
    made = make(
        small_task(miniature="count"),
        name="small",
        folder=tmp_path / "new",
        config=config(tmp_path, examples=2, training_examples=7),
    )
    assert made.splits == {"train": 7, "val": 2}


def test_two_names_for_the_same_rows_are_drawn_once(tmp_path):
    again = {"train": JsonRecords(file="train.json"), "val": JsonRecords(file="train.json")}
    task = small_task(miniature="count", splits=again, rows=(Row(title="x", splits=("val",), metric=EQUAL),))
    made = make(task, name="small", folder=tmp_path / "new", config=config(tmp_path, examples=2))
    assert made.splits == {"train": 2}


def test_the_seed_decides_what_is_drawn(tmp_path):
    def rows(name, seed):
        make(
            small_task(miniature="question"),
            name="small",
            folder=tmp_path / name,
            config=config(tmp_path, seed=seed),
        )
        return (tmp_path / name / "val.json").read_text()

    assert rows("a", 1) == rows("b", 1) != rows("c", 2)


def test_a_task_file_can_be_named(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from tests.small_task import small_task\nTASK = small_task(miniature='count')\n")
    names: list[str] = []
    (made,) = run(config(tmp_path, tasks=(str(file),)), names.append)
    assert (made.task, made.folder, names) == ("mine", tmp_path / "new", ["mine"])
    with pytest.raises(InputError, match="exists"):
        run(config(tmp_path, tasks=(str(file),)))


def test_what_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no kind of miniature"):
        make(small_task(), name="small", folder=tmp_path / "new", config=config(tmp_path))
    with pytest.raises(ConfigError, match="examples is 0"):
        config(tmp_path, examples=0)
    with pytest.raises(InputError, match="no task 'nonsense'"):
        run(config(tmp_path, tasks=("nonsense",)))
    assert not (tmp_path / "new").exists()
