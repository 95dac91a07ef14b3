import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from paligemma2.data.sources import DataSource, SourceExamples, read_source
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.transfer_task import (
    PICTURE_SIZE,
    PREFIX,
    bin_rule,
    write_transfer_task,
)
from paligemma2.data.synthetic.world import VOCABULARY
from paligemma2.errors import InputError, WorkError
from paligemma2.types import Example


def read(folder: Path) -> SourceExamples:
    return read_source(DataSource(path=folder))


def pictures(examples: Sequence[Example]) -> list[bytes]:
    return [Path(str(example.images[0])).read_bytes() for example in examples]


def test_the_folder_reads_as_a_data_set(tmp_path: Path) -> None:
    write_transfer_task(tmp_path, train=5, held_out=3, seed=1)
    train, held_out = read(tmp_path).train, read(tmp_path).held_out
    assert (len(train), len(held_out)) == (5, 3)
    bins = {bin_rule(1).bin_of(shape, color) for shape in SHAPES for color in COLORS}
    for example in (*train, *held_out):
        assert example.prefix == PREFIX
        assert example.suffix in bins
        with Image.open(str(example.images[0])) as image:
            assert (image.size, image.format) == ((PICTURE_SIZE, PICTURE_SIZE), "PNG")


def test_no_picture_comes_twice(tmp_path: Path) -> None:
    write_transfer_task(tmp_path, train=30, held_out=10, seed=0)
    every = pictures(read(tmp_path).train) + pictures(read(tmp_path).held_out)
    assert len(set(every)) == 40


def test_a_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_transfer_task(tmp_path / folder, train=3, held_out=1, seed=seed)
    a, b, c = (pictures(read(tmp_path / folder).train) for folder in "abc")
    assert a == b
    assert not set(a) & set(c)


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    write_transfer_task(tmp_path, train=4, held_out=2, seed=0)
    before = read(tmp_path).fingerprint
    write_transfer_task(tmp_path, train=4, held_out=2, seed=0)
    assert read(tmp_path).fingerprint == before


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_a_bin_of_its_own(seed: int) -> None:
    rule = bin_rule(seed)
    assert len({rule.bin_of(shape, color) for shape in SHAPES for color in COLORS}) == 56


def test_rules_of_different_seeds_differ() -> None:
    assert len({json.dumps([rule.letters, rule.digits]) for rule in map(bin_rule, range(20))}) == 20


def test_the_words_are_not_those_of_pre_training() -> None:
    assert not {"sort", "part", "bin"} & set(VOCABULARY)


def test_no_typeface_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fonts", None)
    write_transfer_task(tmp_path, train=1, held_out=1, seed=0)


@pytest.mark.parametrize(("train", "held_out"), [(0, 1), (1, 0), (-1, 5)])
def test_an_empty_split_is_refused(tmp_path: Path, train: int, held_out: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        write_transfer_task(tmp_path / "new", train=train, held_out=held_out, seed=0)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="file"):
        write_transfer_task(tmp_path / "file" / "task", train=1, held_out=1, seed=0)
