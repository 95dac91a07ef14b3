import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError, InputError, Interrupted
from paligemma2.evaluation.examples import read_examples
from paligemma2.evaluation.predict import (
    Unreadable,
    asked,
    image_name,
    predict_batch,
    predict_examples,
    with_shuffled_pictures,
)
from paligemma2.evaluation.predictions import Header, PredictionsFile, read_predictions
from paligemma2.evaluation.protocol import ProtocolSettings, split_protocol
from paligemma2.inference.loading import load
from paligemma2.types import Clip, Decoding, EditedPicture, FilePart, TableCell
from tests.small_task import small_task, write_colours

TASK = small_task()
DECODING = Decoding(max_new_tokens=8)


@pytest.fixture(scope="module")
def model():
    return load("tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours") / "data", count=9)


@pytest.fixture
def examples(folder):
    return asked(read_examples(TASK, "val", DataFolder(folder)).examples)


@pytest.fixture
def file(tmp_path):
    protocol = split_protocol("colours", TASK, ProtocolSettings(), "val")
    made = PredictionsFile(tmp_path / "val.jsonl", Header(protocol=protocol, model="tiny", fingerprint="f"))
    made.merge()
    return made


def test_every_example_has_its_answer_and_what_is_right(model, examples, file, folder):
    told = []
    assert (
        predict_examples(model, examples, file, DECODING, batch_size=4, num_done=2, on_progress=told.append)
        == []
    )
    lines = read_predictions(file.path).lines
    assert [line.prediction for line in lines] == ["red", "green", "blue"] * 3
    assert [line.answers for line in lines] == [("red",), ("green",), ("blue",)] * 3
    assert [line.id for line in lines] == [str(10 + number) for number in range(9)]
    assert [line.index for line in lines] == list(range(9))
    assert lines[1].images == (str(folder / "images" / "val_1.png"),)
    assert lines[1].unit == "val_1.png"
    assert {line.finish_reason for line in lines} == {"stop"}
    assert all(line.log_prob < 0 < line.seconds for line in lines)
    assert [(each.done, each.total) for each in told] == [(2, 11), (6, 11), (10, 11), (11, 11)]
    assert told[0].seconds_left is None
    assert told[-1].seconds_left == 0
    assert told[-1].rate > 0


def test_answers_do_not_depend_on_the_batch(model, examples):
    together = predict_batch(model, examples, DECODING)
    alone = [predict_batch(model, [each], DECODING)[0] for each in examples]
    assert [each.prediction for each in together] == [each.prediction for each in alone]


def test_beams_are_searched(model, examples):
    decoding = Decoding(max_new_tokens=8, method="beam", beams=2, beam_rule="big_vision")
    assert [each.prediction for each in predict_batch(model, examples[:3], decoding)] == [
        "red",
        "green",
        "blue",
    ]


def test_a_damaged_picture_is_named_and_the_others_are_answered(model, tmp_path, file):
    folder = write_colours(tmp_path / "damaged", count=5)
    (folder / "images" / "val_2.png").write_bytes(b"no picture")
    examples = asked(read_examples(TASK, "val", DataFolder(folder)).examples)
    (bad,) = predict_examples(model, examples, file, DECODING, batch_size=3)
    assert bad.id == "12"
    assert bad.image.endswith("val_2.png")
    assert "not a readable image" in bad.reason
    assert [line.id for line in read_predictions(file.path).lines] == ["10", "11", "13", "14"]
    assert isinstance(predict_batch(model, [examples[2]], DECODING)[0], Unreadable)


def test_a_stop_keeps_whole_batches_and_says_how_to_go_on(model, examples, file):
    def stop(progress):
        if progress.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(Interrupted, match="stopped; 3 of 9 predictions") as caught:
        predict_examples(model, examples, file, DECODING, batch_size=3, on_progress=stop)
    assert caught.value.exit_code == 143
    assert len(read_predictions(file.path).lines) == 3


def test_a_prompt_that_does_not_fit_is_said_with_its_example(model, examples):
    long = replace(examples[0].example.example, prefix="a picture " * 800)
    wrong = replace(examples[0], example=replace(examples[0].example, example=long))
    with pytest.raises(InputError):
        predict_batch(model, [wrong], DECODING)


def test_answers_end_where_the_context_ends(model, examples):
    room = model.config.text.max_positions - model.config.num_image_tokens
    decoding = Decoding(max_new_tokens=room + 100)
    assert predict_batch(model, examples[:1], decoding)[0].prediction == "red"


def test_ids_that_come_twice_are_told_apart(examples):
    pair = [examples[0].example, examples[0].example, examples[1].example]
    assert [each.id for each in asked(pair)] == ["10", "10#2", "11"]
    without = [replace(each, example=replace(each.example, id="")) for each in pair]
    assert [each.id for each in asked(without)] == ["0", "1", "2"]


def test_shuffled_pictures_are_others_and_the_same_each_time(examples):
    shuffled = with_shuffled_pictures(examples, seed=0)
    pairs = list(zip(examples, shuffled, strict=True))
    assert all(old.example.example.images != new.example.example.images for old, new in pairs)
    assert all(old.example.reference == new.example.reference for old, new in pairs)
    assert {new.example.example.images for _, new in pairs} == {
        old.example.example.images for old, _ in pairs
    }
    assert with_shuffled_pictures(examples, seed=0) == shuffled
    assert with_shuffled_pictures(examples, seed=1) != shuffled
    with pytest.raises(DataError, match="cannot be shuffled"):
        with_shuffled_pictures([examples[0], examples[0]], seed=0)


def test_pictures_of_all_kinds_have_names():
    assert image_name(Path("a/b.png")) == "a/b.png"
    assert image_name(FilePart(Path("a.tar"), 512, 99)) == "a.tar:512+99"
    cell = TableCell(Path("a.parquet"), 7, "image.bytes")
    assert image_name(cell) == image_name(EditedPicture(source=cell)) == "a.parquet:row 7 of image.bytes"
    assert image_name(Clip("a.mp4")) == "a.mp4"
    assert image_name(Clip("a.mp4", start=1.5, end=3.0)) == "a.mp4 [1.5-3]"
    assert image_name(Image.new("RGB", (2, 2))) == "a Image"
