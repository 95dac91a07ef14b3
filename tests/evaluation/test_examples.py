import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.records import Record
from paligemma2.errors import DataError
from paligemma2.evaluation.examples import read_examples
from paligemma2.types import EditedPicture, Variant
from tests.small_task import small_task, write_colours


def test_rows_become_prompts_and_answers(tmp_path: Path) -> None:
    folder = DataFolder(write_colours(tmp_path / "data"))
    found = read_examples(small_task(), "val", folder)
    first = found.examples[0]
    assert first.example.prefix == "answer en what color is the picture?"
    assert first.example.suffix == "red"
    assert first.example.id == "10"
    assert first.reference.answers == ("red",)
    assert first.reference.unit == "val_0.png"
    assert found.num_rows == 6
    assert found.missing == ()


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    root = write_colours(tmp_path / "data")
    (root / "images" / "val_2.png").unlink()
    found = read_examples(small_task(), "val", DataFolder(root))
    assert found.missing == ("val_2.png",)
    assert len(found.examples) == 5
    assert found.num_rows == 6


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    root = write_colours(tmp_path / "data")
    for picture in (root / "images").iterdir():
        picture.unlink()
    with pytest.raises(DataError, match="none of the pictures"):
        read_examples(small_task(), "val", DataFolder(root))


def test_a_limit_draws_rows_in_their_order(tmp_path: Path) -> None:
    folder = DataFolder(write_colours(tmp_path / "data"))
    some = [each.example.id for each in read_examples(small_task(), "val", folder, limit=3, seed=1).examples]
    assert len(some) == 3
    assert some == sorted(some)
    assert any(
        some
        != [each.example.id for each in read_examples(small_task(), "val", folder, limit=3, seed=s).examples]
        for s in range(2, 6)
    )


def test_parts_of_several_splits_come_in_order(tmp_path: Path) -> None:
    folder = DataFolder(write_colours(tmp_path / "data"))
    found = read_examples(small_task(), "train[:2] + val[-1:]", folder)
    assert [each.example.id for each in found.examples] == ["0", "1", "15"]


def test_a_row_without_a_field_of_the_prompt_is_told(tmp_path: Path) -> None:
    folder = DataFolder(write_colours(tmp_path / "data"))
    with pytest.raises(DataError, match="no field 'hint'"):
        read_examples(small_task(prefix="{hint}"), "val", folder)


@dataclass(frozen=True)
class Twice:
    """Each picture may be asked about in two languages, in the second in two ways."""

    def read(self, folder: DataFolder) -> Iterator[Record]:
        yes, ja = {"question": "red?", "answer": ["yes"]}, {"question": "rot?", "answer": ["ja", "jo"]}
        variants = ((yes,), (ja, {**ja, "question": "rot, oder?"}))
        yield Record(id="1", pictures=("val_0.png",), fields=yes, variants=variants)


def test_variants_become_prompts_and_answers(tmp_path: Path) -> None:
    task = small_task(splits={"train": Twice(), "val": Twice()})
    (found,) = read_examples(task, "val", DataFolder(write_colours(tmp_path / "data"))).examples
    assert found.example.prefix == "answer en red?"
    assert found.example.variants == (
        Variant(prefixes=("answer en red?",), answers=("yes",)),
        Variant(prefixes=("answer en rot?", "answer en rot, oder?"), answers=("ja", "jo")),
    )


def test_a_test_split_has_prompts_without_answers(tmp_path: Path) -> None:
    root = write_colours(tmp_path / "data")
    rows = json.loads((root / "val.json").read_text())
    for row in rows:
        del row["answer"]
    (root / "val.json").write_text(json.dumps(rows))
    first = read_examples(small_task(test_split="val"), "val", DataFolder(root)).examples[0]
    assert (first.example.suffix, first.reference.answers) == (None, ())
    with pytest.raises(DataError, match="row 10 has no right answer"):
        read_examples(small_task(), "val", DataFolder(root))


def test_pictures_that_are_changed_are_looked_up(tmp_path: Path) -> None:
    folder = DataFolder(write_colours(tmp_path / "data"))
    task = small_task(splits={"val": Turned(name="val_1.png")}, train="val")
    (example,) = read_examples(task, "val", folder).examples
    source = folder.root / "images" / "val_1.png"
    assert example.example.images == (EditedPicture(source=source, quarter_turns=1),)
    with pytest.raises(DataError, match=r"the first: gone\.png"):
        read_examples(small_task(splits={"val": Turned(name="gone.png")}, train="val"), "val", folder)


def test_compressed_archives_are_told(tmp_path: Path) -> None:
    root = write_colours(tmp_path / "data")
    for picture in (root / "images").iterdir():
        picture.unlink()
    (root / "images.tar.gz").write_bytes(b"")
    with pytest.raises(DataError) as told:
        read_examples(small_task(), "val", DataFolder(root))
    assert "gunzip images.tar.gz" in told.value.hint


@dataclass(frozen=True, kw_only=True)
class Turned:
    name: str

    def read(self, folder: DataFolder) -> Iterator[Record]:
        picture = EditedPicture(source=self.name, quarter_turns=1)
        yield Record(id="1", pictures=(picture,), fields={"question": "?", "answer": "red"})
