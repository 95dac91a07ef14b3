from pathlib import Path

import pytest

from paligemma2.data.readers.coco_captions import CocoCaptions, KarpathyCaptions
from paligemma2.errors import DataError
from tests.data.readers.small_rows import fixture, folder_of, read


def test_the_captions_of_a_split() -> None:
    first, second = read(KarpathyCaptions(split="val"), fixture("cococap"))
    assert (first.id, len(first.fields["captions"])) == ("296284", 5)
    assert first.pictures == ("COCO_val2014_000000296284.jpg",)
    assert first.fields["captions"][0] == "A donut shop is full of different flavors of donuts."
    assert second.id != first.id


def test_captions_in_cocos_format() -> None:
    folder = fixture("nocaps")
    first, second = read(CocoCaptions(file="nocaps_val_4500_captions.json"), folder)
    assert (first.fields["domain"], second.fields["domain"]) == ("in-domain", "out-domain")
    assert first.pictures == ("0013ea2087020901.jpg",)
    assert second.fields["captions"][1] == "A red lobster on a white dish."
    (hidden,) = read(CocoCaptions(file="nocaps_test_image_info.json"), folder)
    assert hidden.fields["captions"] == [""]


def test_malformed_rows_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"dataset_coco.json": {"images": [{"split": "val", "cocoid": 3}]}})
    with pytest.raises(DataError, match="row 0, cannot be used: no field 'sentences'"):
        read(KarpathyCaptions(split="val"), folder)
    bad = {"images": [], "annotations": [{"caption": "a"}]}
    with pytest.raises(DataError, match="no field 'image_id'"):
        read(CocoCaptions(file="a.json"), folder_of(tmp_path, {"a.json": bad}))
