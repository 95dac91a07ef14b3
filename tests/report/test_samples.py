import zlib
from pathlib import Path

import pytest

from paligemma2.errors import DataError
from paligemma2.report.samples import worst_samples
from tests.small_results import save_drawing, save_predictions, small_row
from tests.small_video import save_clip

LINES = (
    {"prediction": "green", "answers": ["green"], "score": 1.0, "log_prob": -0.1, "images": ["gone.png"]},
    {"prediction": "blue", "answers": ["red", "pink", "red"], "score": 0.0, "log_prob": -2.0, "images": []},
    {"prediction": "teal", "answers": ["red"], "score": 0.0, "log_prob": -0.2, "images": []},
)


def test_the_worst_come_first_and_of_equal_ones_the_surest(tmp_path: Path) -> None:
    save_predictions(tmp_path / "val.jsonl", LINES)
    samples = worst_samples(tmp_path, small_row(), 10)
    assert [sample.prediction for sample in samples] == ["teal", "blue", "green"]
    assert [sample.prediction for sample in worst_samples(tmp_path, small_row(), 1)] == ["teal"]
    assert samples[1].answers == ("red (× 2)", "pink")


def test_the_splits_of_a_row_are_taken_together(tmp_path: Path) -> None:
    save_predictions(tmp_path / "val_-10240to.jsonl", LINES[:1])
    save_predictions(tmp_path / "test.jsonl", LINES[1:2])
    row = small_row(splits=("val[-10240:]", "test"))
    assert [sample.prediction for sample in worst_samples(tmp_path, row, 5)] == ["blue", "green"]


def test_pictures_are_small_and_have_the_boxes_of_the_prediction(tmp_path: Path) -> None:
    picture = save_drawing(tmp_path / "a.png", size=(800, 600))
    box = "<loc0100><loc0100><loc0900><loc0900> disc"
    lines = [
        {"prediction": text, "answers": [], "score": 0.0, "images": [str(picture)]} for text in ("", box)
    ]
    save_predictions(tmp_path / "val.jsonl", lines)
    plain, boxed = worst_samples(tmp_path, small_row(), 2)
    assert plain.picture is not None
    assert boxed.picture is not None
    assert plain.picture.size == boxed.picture.size == (320, 240)
    assert plain.picture.tobytes() != boxed.picture.tobytes()


@pytest.mark.parametrize("is_deflated", [False, True])
def test_a_picture_inside_of_an_archive_is_read_there(tmp_path: Path, is_deflated: bool) -> None:
    inside = save_drawing(tmp_path / "a.png").read_bytes()
    if is_deflated:
        packer = zlib.compressobj(wbits=-15)
        inside = packer.compress(inside) + packer.flush()
    (tmp_path / "shard.tar").write_bytes(b"x" * 512 + inside + b"y")
    part = f"{tmp_path / 'shard.tar'}:512+{len(inside)}"
    save_predictions(
        tmp_path / "val.jsonl", [{"prediction": "a", "answers": [], "score": 0.5, "images": [part, part]}]
    )
    (sample,) = worst_samples(tmp_path, small_row(), 2)
    assert sample.picture is not None
    assert sample.picture.size == (320, 240)
    assert sample.lines == ("the first of 2 pictures",)


def test_a_video_shows_the_first_frame_of_its_part(tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "clip.mp4")
    names = [str(clip), f"{clip} [0.2-]", f"{tmp_path / 'gone.mp4'} [1-2.5]"]
    lines = [{"prediction": "a", "answers": [], "score": n, "images": [name]} for n, name in enumerate(names)]
    save_predictions(tmp_path / "val.jsonl", lines)
    whole, part, gone = worst_samples(tmp_path, small_row(), 3)
    assert whole.picture is not None
    assert part.picture is not None
    assert whole.picture.tobytes() != part.picture.tobytes()
    assert gone.picture is None


def test_a_picture_that_is_gone_and_a_cut_answer_are_told(tmp_path: Path) -> None:
    save_predictions(tmp_path / "val.jsonl", [{**LINES[0], "finish_reason": "length"}])
    (sample,) = worst_samples(tmp_path, small_row(), 1)
    assert sample.picture is None
    assert sample.lines == (
        "the picture cannot be read any more",
        "the answer was cut at its longest length",
    )


def test_lines_without_a_score_and_missing_files_give_nothing(tmp_path: Path) -> None:
    assert worst_samples(tmp_path, small_row(), 3) == []
    save_predictions(tmp_path / "val.jsonl", [{**LINES[0], "score": None}])
    assert worst_samples(tmp_path, small_row(), 3) == []


def test_a_damaged_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = save_predictions(tmp_path / "val.jsonl", LINES)
    path.write_text(path.read_text(encoding="utf-8") + "{half\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"val\.jsonl, line 5"):
        worst_samples(tmp_path, small_row(), 3)
