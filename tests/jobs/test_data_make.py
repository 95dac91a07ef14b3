import re
from pathlib import Path

import pytest

from paligemma2 import tasks
from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.data.miniatures.kinds import KINDS
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.examples import read_examples
from paligemma2.evaluation.targets import ObjectTokens
from paligemma2.evaluation.task import Row, Task, parse_splits
from paligemma2.jobs.data_make import DataMakeConfig, make, run
from paligemma2.jobs.mask_reading import coding_of
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


def named_splits(task: Task) -> list[str]:
    """Whatever is scored, trained on, chosen by, or predicted for a server."""
    scored = [split for row in task.rows for split in row.splits]
    return list(dict.fromkeys(filter(None, (*scored, task.train, *(task.tune or ()), task.test_split))))


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_reads_its_miniature(name: str, tmp_path: Path) -> None:
    task = tasks.load(name)
    assert task.miniature in KINDS
    made = make(task, name=name, folder=tmp_path / name, config=config(tmp_path, examples=2))
    assert set(made.splits.values()) == {2}
    folder = DataFolder(made.folder)
    coding = coding_of(load_mask_codec().codec) if isinstance(task.suffix, ObjectTokens) else None
    prompt = re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(task.prefix)), re.DOTALL)
    for split in named_splits(task):
        if "[" in split and split in (task.tune or ()):  # a part of few rows may be none
            continue
        found = read_examples(task, split, folder, coding=coding)
        assert found.missing == ()
        parts = [part for part in parse_splits(split) if not (part.start or part.stop)]
        assert found.num_rows >= sum(made.splits.get(part.name, 2) for part in parts)
        for each in found.examples:
            assert prompt.fullmatch(each.example.prefix), each.example.prefix
            assert split == task.test_split or all(each.reference.answers)
            assert (each.example.suffix is None) == (split == task.test_split)
        assert len({each.example.id for each in found.examples}) > 1


def test_no_two_tasks_share_a_picture(tmp_path: Path) -> None:
    names = ("cococap", "nocaps")
    run(config(tmp_path, tasks=names, examples=4))
    files = [{path.read_bytes() for path in (tmp_path / "new" / name).rglob("*.jpg")} for name in names]
    assert files[0]
    assert not files[0] & files[1]
