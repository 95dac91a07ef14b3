import bz2
import csv
import gzip
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from paligemma2.data.miniatures.files import Files, json_lines
from paligemma2.errors import ConfigError
from paligemma2.processing.video import frame_indices

ROWS = [{"a": 1, "b": "é,\n"}, {"a": 2, "b": 'say "x"'}]


def test_the_ending_of_the_name_decides_how_rows_are_written(tmp_path):
    files = Files(tmp_path)
    for name in ("x.json", "deep/x.jsonl", "x.csv", "x.p", "x.json.gz", "x.json.bz2"):
        files.rows(name).extend(ROWS)
    files.rows("x.txt").extend(["one", "two"])
    files.rows("lines.json", json_lines).extend(ROWS)
    files.save()
    assert json.loads((tmp_path / "x.json").read_text()) == ROWS
    for name in ("deep/x.jsonl", "lines.json"):
        assert [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] == ROWS
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{**row, "a": str(row["a"])} for row in ROWS]
    assert pickle.loads((tmp_path / "x.p").read_bytes()) == ROWS
    assert json.loads(gzip.decompress((tmp_path / "x.json.gz").read_bytes())) == ROWS
    assert json.loads(bz2.decompress((tmp_path / "x.json.bz2").read_bytes())) == ROWS
    assert (tmp_path / "x.txt").read_text() == "one\ntwo\n"


def test_two_splits_add_to_one_file(tmp_path):
    files = Files(tmp_path)
    files.table("x.json", version=1, rows=[])["rows"].append(1)
    files.table("x.json", version=1, rows=[])["rows"].append(2)
    files.save()
    assert json.loads((tmp_path / "x.json").read_text()) == {"version": 1, "rows": [1, 2]}


def test_an_ending_that_says_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"x\.dat"):
        Files(tmp_path).rows("x.dat")


def test_pictures_and_videos_come_out_nearly_as_they_were(tmp_path):
    files = Files(tmp_path)
    frames = [np.full((112, 112, 3), 40 * number, np.uint8) for number in range(5)]
    for name in ("a.png", "b/a.jpg"):
        files.picture(name, frames[3])
        assert np.abs(np.asarray(Image.open(tmp_path / name), dtype=int) - 120).max() <= 1
    files.video("v.mp4", frames)
    import av

    with av.open(str(tmp_path / "v.mp4")) as container:
        read = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert len(read) == 5
    assert frame_indices(5, 2, 3) == (0, 3)
    assert np.abs(np.subtract(read, [0, 40, 80, 120, 160])).max() < 4
