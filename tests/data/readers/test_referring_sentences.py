import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.referring_sentences import ReferringFiles, ReferringPictures, ReferringSentences
from paligemma2.errors import DataError
from paligemma2.processing.masks import rle_to_mask
from tests.data.readers.small_rows import FIXTURES, fixture, read

REFCOCO = ReferringFiles("refcoco", "unc")
ALL = (ReferringFiles("refcocog", "umd"), REFCOCO, ReferringFiles("refcoco+", "unc"))


def test_each_sentence_is_a_row() -> None:
    first, second = read(ReferringSentences(files=REFCOCO, split="val"), fixture("refcoco"))
    assert (first.fields["sentence"], second.fields["sentence"]) == ("left one", "the square")
    assert (first.id, second.id) == ("3", "4")
    assert first.unit == second.unit == "102"
    assert first.pictures == ("COCO_train2014_000000000102.jpg",)
    # The box [16, 16, 72, 64] (x, y, width, height) of a picture of 128 x 192.
    assert first.fields["box"] == [16 / 128, 16 / 192, 80 / 128, 88 / 192]
    expected = np.zeros((128, 192), dtype=bool)
    expected[16:80, 16:88] = True
    assert (rle_to_mask(first.fields["mask"]) == expected).all()
    assert not first.variants


def test_training_leaves_out_pictures_of_other_splits() -> None:
    rows = read(ReferringPictures(files=ALL), fixture("refcoco"))
    # 105 is in the training split of RefCOCO, and in val of RefCOCOg.
    assert [row.id for row in rows] == ["101", "106"]


def test_training_puts_the_sentences_of_an_object_together() -> None:
    row = read(ReferringPictures(files=ALL), fixture("refcoco"))[0]
    sentences = [[fields["sentence"] for fields in ways] for ways in row.variants]
    assert sentences == [
        ["the diamond that touches nothing", "right diamond"],
        ["left box", "box on the left", "square thing"],
    ]
    assert row.fields == row.variants[0][0]
    assert all(len({str(fields["mask"]) for fields in ways}) == 1 for ways in row.variants)


def test_run_lengths_of_crowds_are_masks_too(tmp_path: Path) -> None:
    folder = changed(tmp_path, segmentation={"size": [128, 192], "counts": [0, 128 * 192]})
    first = read(ReferringSentences(files=REFCOCO, split="val"), folder)[0]
    assert rle_to_mask(first.fields["mask"]).all()


@pytest.mark.parametrize(
    "change",
    [{"segmentation": [[1.0, 2.0]]}, {"bbox": [1, 2]}, {"segmentation": {"size": [2, 2]}}, {"image_id": -1}],
)
def test_malformed_objects_are_told(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"refs\(unc\)\.p, row 2, cannot be used"):
        read(ReferringSentences(files=REFCOCO, split="val"), changed(tmp_path, **change))


def test_pickles_of_other_things_are_told(tmp_path: Path) -> None:
    folder = changed(tmp_path)
    for value, told in (({"a": 1}, "holds no list"), ([{"split": "val"}], "no field 'ann_id'")):
        (tmp_path / "a/refcoco/refs(unc).p").write_bytes(pickle.dumps(value))
        with pytest.raises(DataError, match=told):
            read(ReferringSentences(files=REFCOCO, split="val"), folder)


def changed(root: Path, **change: object) -> DataFolder:
    """The fixture with another object in picture 102."""
    import json

    shutil.copytree(FIXTURES / "refcoco", root / "a")
    path = root / "a/refcoco/instances.json"
    content = json.loads(path.read_text())
    for thing in content["annotations"]:
        if thing["id"] == 1020:
            thing |= change
    path.write_text(json.dumps(content))
    return DataFolder(root / "a")
