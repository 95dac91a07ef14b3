import json
from pathlib import Path

import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError, InputError
from paligemma2.evaluation.examples import read_examples
from paligemma2.jobs.bulk_asking import TaskAsker
from paligemma2.jobs.bulk_sources import find_sources, read_units
from paligemma2.jobs.data_pack import DataPackConfig, run
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.tasks import load
from tests.small_task import write_colours

FILE = "from tests.small_task import small_task\nTASK = small_task()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_colours(tmp_path / "data", count=7)
    (tmp_path / "colours.py").write_text(FILE)
    return tmp_path


def config(folder: Path, **more: object) -> DataPackConfig:
    given = {"task": str(folder / "colours.py"), "data": folder / "data", "destination": folder / "packed"}
    return DataPackConfig(**{**given, **more})  # type: ignore[arg-type]


def test_packed_rows_ask_the_same_and_have_the_same_answers(folder: Path) -> None:
    counts: list[int] = []
    report = run(config(folder, splits=("val[1:6]",)), counts.append)
    assert report.written == {"val[1:6]": 5}
    assert counts == [1, 2, 3, 4, 5]
    task = load(str(folder / "colours.py"))
    plain = read_examples(task, "val[1:6]", DataFolder(folder / "data")).examples
    settings = EvaluateConfig(models=("tiny",), tasks=("colours",), data=Path(), output=Path())
    asker = TaskAsker(name="colours", task=task, split="val[1:6]", config=settings)
    (source,) = find_sources(str(folder / "packed" / "val_1to6"))
    packed = [asker.example(row) for unit in read_units(source, 3) for row in unit.rows]
    assert [each.reference for each in packed] == [each.reference for each in plain]
    for one, other in zip(packed, plain, strict=True):
        assert (one.example.id, one.example.prefix) == (other.example.id, other.example.prefix)
        (picture,) = other.example.images
        assert isinstance(picture, Path)
        assert one.example.images == (picture.read_bytes(),)


def test_all_splits_of_the_card_are_packed_without_a_choice(folder: Path) -> None:
    assert run(config(folder)).written == {"val": 7}
    with pytest.raises(InputError, match="already exists"):
        run(config(folder))


def test_a_row_without_its_picture_is_left_out(folder: Path) -> None:
    (folder / "data" / "images" / "val_2.png").unlink()
    report = run(config(folder))
    assert (report.written, report.missing) == ({"val": 6}, ("val_2.png",))


def test_videos_are_refused(folder: Path) -> None:
    text = (
        "from dataclasses import dataclass\n"
        "from paligemma2.data.readers.records import Record, VideoPart\n"
        "from tests.small_task import small_task\n"
        "@dataclass(frozen=True)\n"
        "class Videos:\n"
        "    def read(self, folder):\n"
        "        yield Record(id='0', pictures=(VideoPart('a'),))\n"
        "TASK = small_task(splits={'train': Videos(), 'val': Videos()})\n"
    )
    (folder / "videos.py").write_text(text)
    with pytest.raises(DataError, match="a is a video"):
        run(config(folder, task=str(folder / "videos.py")))
    assert not (folder / "packed").exists()


def test_the_data_set_is_as_it_was(folder: Path) -> None:
    before = json.loads((folder / "data" / "val.json").read_text())
    run(config(folder))
    assert json.loads((folder / "data" / "val.json").read_text()) == before
