from pathlib import Path

import pytest

from paligemma2.data.readers.textvqa import TextVqaRecords
from paligemma2.errors import DataError
from paligemma2.types import EditedPicture
from tests.data.readers.small_files import folder_with

ROWS = [{"question_id": n, "image_id": name, "question": "?"} for n, name in enumerate(("a", "b", "c", "d"))]
READER = TextVqaRecords(file="x.json", rotations="r.csv")


def test_pictures_that_lie_on_their_side_are_turned(tmp_path: Path) -> None:
    table = "ImageID,Subset,Rotation\na,train,90.0\nb,train,0.0\nc,train,\nd,train,270\n"
    rows = list(READER.read(folder_with(tmp_path, {"x.json": {"data": ROWS}, "r.csv": table})))
    assert [each.pictures[0] for each in rows] == [
        EditedPicture(source="a.jpg", quarter_turns=1),
        "b.jpg",
        "c.jpg",
        EditedPicture(source="d.jpg", quarter_turns=3),
    ]
    assert [each.unit for each in rows] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_another_table_or_none_is_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"x.json": {"data": ROWS}})
    with pytest.raises(DataError, match=r"r\.csv is not there"):
        list(READER.read(folder))
    with pytest.raises(DataError, match="not Open Images' table"):
        list(READER.read(folder_with(tmp_path, {"r.csv": "ImageID,Angle\na,3\n"})))
