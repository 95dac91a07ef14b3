from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from paligemma2.errors import CheckpointError, ImageError, InputError, WorkError
from paligemma2.inference.predictor import load
from paligemma2.jobs import predict
from paligemma2.jobs.predict import Answer, Failure, PredictConfig, find_pictures
from paligemma2.types import Box, Detection, ParsedAnswer
from tests.small_model import save_picture, save_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    made = tmp_path_factory.mktemp("pictures")
    return tuple(save_picture(made / f"{seed}.png", seed, (60, 40)) for seed in range(5))


def run(folder, images, **settings):
    config = PredictConfig(model=str(folder), images=tuple(images), **({"max_new_tokens": 6} | settings))
    return list(predict.run(config))


@pytest.fixture
def finds_a_cat(monkeypatch):
    """The small model is random; let its answers hold a box."""
    cat = Detection(label="cat", box=Box(y_min=0.25, x_min=0.25, y_max=0.75, x_max=0.75))
    found = ParsedAnswer(detections=(cat,), text="", problems=())
    monkeypatch.setattr(predict, "parse_answer", lambda text: found)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_picture_is_answered_in_order_as_if_alone(folder, pictures, batch_size):
    answers = run(folder, pictures, prompt="caption en", batch_size=batch_size)
    assert [answer.images for answer in answers] == [(picture,) for picture in pictures]
    model = load(folder)
    assert [a.generation for a in answers] == [model.generate(p, "caption en", 6)[0] for p in pictures]
    assert {answer.sizes for answer in answers} == {((40, 60),)}


def test_together_asks_once(folder, pictures):
    (answer,) = run(folder, pictures[:3], together=True)
    assert answer.images == pictures[:3]
    assert answer.generation == load(folder).generate(list(pictures[:3]), "", 6)[0]


def test_a_bad_picture_fails_alone(folder, pictures, tmp_path):
    (tmp_path / "bad.png").write_bytes(pictures[0].read_bytes()[:60])
    images = [tmp_path / "nowhere.png", pictures[0], tmp_path / "bad.png", pictures[1], pictures[2]]
    results = run(folder, images, batch_size=2)
    assert [type(result) for result in results] == [Failure, Answer, Failure, Answer, Answer]
    assert [result.images[0] for result in results] == images
    for failure in (results[0], results[2]):
        assert isinstance(failure.error, ImageError)
        assert failure.images[0].name in failure.error.message


def test_a_bad_picture_among_several_together_fails_the_question(folder, pictures, tmp_path):
    (failure,) = run(folder, [pictures[0], tmp_path / "nowhere.png"], together=True)
    assert "nowhere.png" in failure.error.message


def test_answers_come_before_later_pictures_are_read(folder, pictures, tmp_path):
    late = tmp_path / "late.png"
    config = PredictConfig(model=str(folder), images=(pictures[0], late), max_new_tokens=2, batch_size=1)
    results = predict.run(config)
    assert isinstance(next(results), Answer)
    save_picture(late)
    assert isinstance(next(results), Answer)


def test_no_model_is_loaded_when_no_picture_can_be_read(tmp_path):
    (failure,) = run("nonsense", [tmp_path / "nowhere.png"])
    assert isinstance(failure, Failure)


def test_text_is_streamed_for_one_question_and_not_for_several(folder, pictures):
    pieces = []
    config = PredictConfig(model=str(folder), images=pictures[:1], max_new_tokens=9)
    (answer,) = predict.run(config, on_text=pieces.append)
    assert "".join(pieces) == answer.generation.text
    assert len(pieces) > 1
    assert answer == run(folder, pictures[:1], max_new_tokens=9)[0]
    config = PredictConfig(model=str(folder), images=pictures[:2], max_new_tokens=2)
    list(predict.run(config, on_text=lambda text: pytest.fail("streamed")))


def test_a_wrong_model_or_a_long_prompt_ends_the_work(folder, pictures, tmp_path):
    with pytest.raises(InputError, match="no checkpoint"):
        run("nonsense", pictures)
    with pytest.raises(CheckpointError):
        run(tmp_path, pictures)
    with pytest.raises(InputError, match="the model's context is"):
        run(folder, pictures, prompt="x" * 1000)
    with pytest.raises(InputError, match="leaves room"):
        run(folder, pictures, max_new_tokens=1000)


def test_memory_that_runs_out_on_a_device_is_a_work_error(folder, pictures, monkeypatch):
    import torch

    def fail(*arguments):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("paligemma2.inference.predictor.decode", fail)
    with pytest.raises(WorkError, match="memory"):
        run(folder, pictures[:1])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"images": ()}, "no image"),
        ({"batch_size": 0}, "batch size"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"images": (Path("a"), Path("b")), "together": True, "annotate": Path("out")}, "several pictures"),
        ({"annotate": Path(__file__)}, "is not a folder"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        PredictConfig(**({"images": (Path("a.png"),)} | settings))


def test_folders_are_walked_for_pictures_in_order(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.webp", ".hidden/d.png", "._a.png"):
        save_picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "page.pdf").write_text("x")
    (tmp_path / "folder.png").mkdir()
    inside = [tmp_path / name for name in ("a.jpg", "b.PNG", "sub/c.webp")]
    assert find_pictures([tmp_path]) == tuple(inside)
    assert find_pictures([tmp_path / "sub", Path("nowhere.png"), tmp_path / "a.jpg"]) == (
        inside[2],
        Path("nowhere.png"),
        inside[0],
    )


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="no picture in this folder"):
        find_pictures([tmp_path])


@pytest.mark.usefixtures("finds_a_cat")
def test_boxes_are_drawn_on_a_copy_in_its_own_size(folder, pictures, tmp_path):
    (answer,) = run(folder, pictures[:1], annotate=tmp_path / "out")
    assert answer.annotated == tmp_path / "out" / "0.png"
    with Image.open(answer.annotated) as drawn, Image.open(pictures[0]) as original:
        assert drawn.size == original.size
        assert drawn.format == "PNG"
        assert drawn.tobytes() != original.tobytes()


def test_equal_stems_get_names_of_their_own(folder, tmp_path):
    names = ("x/a.png", "y/a.jpg", "z/A.png")
    images = [save_picture(tmp_path / name, seed) for seed, name in enumerate(names)]
    answers = run(folder, images, annotate=tmp_path / "out")
    assert [answer.annotated.name for answer in answers] == ["a.png", "a-2.png", "A-3.png"]


def test_neither_an_input_nor_a_stranger_file_is_overwritten(folder, tmp_path):
    image = save_picture(tmp_path / "a.png")
    other = tmp_path / "a-2.png"
    other.write_text("mine")
    before = image.read_bytes()
    (answer,) = run(folder, [image], annotate=tmp_path)
    assert answer.annotated == tmp_path / "a-3.png"
    assert (image.read_bytes(), other.read_text()) == (before, "mine")


def test_a_second_run_replaces_its_own_pictures(folder, pictures, tmp_path):
    first = run(folder, pictures[:2], annotate=tmp_path / "out")
    second = run(folder, pictures[:2], annotate=tmp_path / "out")
    assert [a.annotated for a in first] == [a.annotated for a in second]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]


def test_a_drawn_picture_given_as_input_is_not_overwritten(folder, tmp_path):
    image = save_picture(tmp_path / "a.png")
    about = PngImagePlugin.PngInfo()
    about.add_text(*predict._MARK)
    Image.open(image).save(image, pnginfo=about)
    (answer,) = run(folder, [image], annotate=tmp_path)
    assert answer.annotated == tmp_path / "a-2.png"


def test_a_folder_that_cannot_be_written_is_a_work_error(folder, pictures):
    with pytest.raises(WorkError, match="could not be written"):
        run(folder, pictures[:1], annotate=Path("/proc/nowhere"))
