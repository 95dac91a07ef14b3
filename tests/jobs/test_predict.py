from pathlib import Path

import pytest
import torch
from PIL import Image

from paligemma2.checkpoint.mask_codec_files import load_mask_codec, record_mask_codec, save_mask_codec
from paligemma2.errors import CheckpointError, ImageError, InputError, WorkError
from paligemma2.inference.loading import load
from paligemma2.jobs import predict
from paligemma2.jobs.predict import Answer, Failure, PredictConfig
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig
from paligemma2.processing.masks import paste_mask
from paligemma2.types import Clip
from tests.small_adapter import save_random_adapter
from tests.small_model import save_picture, save_small_model, small_config
from tests.small_video import save_clip


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


@pytest.fixture(scope="module")
def codec(tmp_path_factory, folder):
    """A random codec, the one that the small model's mask tokens belong to."""
    file = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    torch.manual_seed(0)
    save_mask_codec(file, MaskCodec(MaskCodecConfig(embedding_size=4)), "random")
    record_mask_codec(folder, load_mask_codec(file).record)
    return file


# The small model is random, but so its answers hold an object.
DETECT = {"prompt": "detect cat ; dog", "constrained": True, "max_new_tokens": 12}
SEGMENT = {"prompt": "segment cat ; dog", "constrained": True, "max_new_tokens": 30}


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


def test_an_adapter_is_used_for_every_answer(folder, pictures, tmp_path):
    adapter = save_random_adapter(tmp_path / "adapter", small_config())
    answers = run(folder, pictures, prompt="caption en", adapter=adapter)
    model = load(folder, adapter=adapter)
    assert [a.generation for a in answers] == [model.generate(p, "caption en", 6)[0] for p in pictures]
    assert answers != run(folder, pictures, prompt="caption en")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    made = tmp_path_factory.mktemp("clips")
    return tuple(save_clip(made / f"{first}.mp4", first=first) for first in range(3))


def test_a_video_is_asked_about_as_its_frames(folder, clips, pictures):
    settings = {"videos": frozenset(clips), "num_frames": 5, "stride": 9, "prompt": "caption en"}
    answers = run(folder, [clips[0], pictures[0], clips[1]], **settings)
    model = load(folder)
    asked = [Clip(clips[0], num_frames=5, stride=9), pictures[0], Clip(clips[1], num_frames=5, stride=9)]
    assert [a.generation for a in answers] == [model.generate(p, "caption en", 6)[0] for p in asked]
    assert [a.images for a in answers] == [(clips[0],), (pictures[0],), (clips[1],)]
    assert [a.sizes for a in answers] == [((48, 64),) * 5, ((40, 60),), ((48, 64),) * 5]
    (together,) = run(folder, [clips[0], pictures[0]], together=True, **settings)
    assert together.generation == model.generate(asked[:2], "caption en", 6)[0]


def test_frames_count_as_pictures_in_a_batch(pictures, clips):
    def sizes(images, **settings):
        config = PredictConfig(images=images, videos=frozenset(clips), batch_size=4, **settings)
        return [len(batch) for batch in predict._batches(config)]

    assert sizes(clips, num_frames=2) == [2, 1]
    assert sizes(clips, num_frames=16) == [1, 1, 1]
    assert sizes((*pictures[:3], *clips, *pictures[3:]), num_frames=2) == [3, 2, 3]
    assert sizes((*pictures, *clips), num_frames=2, together=True) == [1]


def test_a_bad_video_fails_alone_and_before_a_model_is_loaded(folder, clips, tmp_path):
    cut = tmp_path / "cut.mp4"
    whole = save_clip(tmp_path / "whole.mp4", options={"movflags": "faststart"}).read_bytes()
    cut.write_bytes(whole[: len(whole) * 7 // 10])
    images = [tmp_path / "nowhere.mp4", clips[0], cut]
    results = run(folder, images, videos=frozenset(images), num_frames=4)
    assert [type(result) for result in results] == [Failure, Answer, Failure]
    assert "cut.mp4: only" in results[2].error.message
    (failure,) = run("nonsense", images[:1], videos=frozenset(images))
    assert "no such file" in failure.error.message


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


@pytest.mark.parametrize(
    ("prompt", "limit"),
    [("caption en", 64), ("", 64), ("ocr", 256), ("detect a ; b", 256), ("segment a", 768)],
)
def test_answers_have_the_room_that_their_form_needs(prompt, limit):
    assert PredictConfig(images=(Path("a"),), prompt=prompt).limit == limit
    assert PredictConfig(images=(Path("a"),), prompt=prompt, max_new_tokens=5).limit == 5


def test_memory_that_runs_out_on_a_device_is_a_work_error(folder, pictures, monkeypatch):
    def fail(*arguments, **settings):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("paligemma2.inference.answers.decode", fail)
    with pytest.raises(WorkError, match="memory"):
        run(folder, pictures[:1])


@pytest.mark.parametrize(("images", "said"), [([1] * 5, 1), ([1], 0)])
def test_too_little_memory_is_said_once_before_the_first_answer(
    folder, pictures, monkeypatch, caplog, images, said
):
    monkeypatch.setattr("paligemma2.jobs.predict_memory.available_memory", lambda device: 50_000)
    config = PredictConfig(model=str(folder), images=pictures[: len(images)], batch_size=2, max_new_tokens=3)
    results = predict.run(config)
    next(results)
    assert len(caplog.records) == said
    list(results)
    assert len(caplog.records) == said


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"images": ()}, "no image"),
        ({"batch_size": 0}, "batch size"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"images": (Path("a"), Path("b")), "together": True, "annotate": Path("out")}, "several pictures"),
        ({"images": (Path("a"), Path("b")), "together": True, "sheet": Path("a.png")}, "several pictures"),
        ({"videos": frozenset({Path("a.png")}), "annotate": Path("out")}, "or a video"),
        ({"videos": frozenset({Path("a.png")}), "num_frames": 0}, "num_frames is 0"),
        ({"annotate": Path(__file__)}, "is not a folder"),
        ({"constrained": True, "prompt": "caption en"}, "'caption en' has no labels"),
        ({"sheet": Path("sheet.jpg")}, "neither .png nor .html"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        PredictConfig(**({"images": (Path("a.png"),)} | settings))


def test_objects_have_labels_of_the_prompt_and_scores(folder, pictures):
    for answer in run(folder, pictures, **DETECT):
        (found,) = answer.parsed.detections
        assert found.label in ("cat", "dog")
        assert 0 < found.score <= 1
        assert answer.parsed.problems == ()


def test_objects_are_drawn_on_copies_of_their_pictures(folder, pictures, tmp_path):
    answers = run(folder, pictures[:2], annotate=tmp_path / "out", **DETECT)
    assert [answer.annotated for answer in answers] == [tmp_path / "out" / f"{n}.png" for n in (0, 1)]
    for answer in answers:
        with Image.open(answer.annotated) as drawn, Image.open(answer.images[0]) as original:
            assert drawn.size == (360, 240)  # six times
            shrunk = drawn.resize(original.size, Image.Resampling.NEAREST)
            assert shrunk.tobytes() != original.tobytes()


def test_masks_are_those_of_the_codec_in_the_size_of_the_picture(folder, pictures, codec):
    answers = run(folder, pictures[:2], mask_codec=codec, masks=True, **SEGMENT)
    for answer in answers:
        (found,) = answer.parsed.detections
        assert answer.why_no_masks is None
        window = load_mask_codec(codec).codec.decode(torch.tensor([found.codes]))[0].numpy()
        assert (found.mask == paste_mask(window, found.box, 40, 60)).all()


def test_masks_are_decoded_when_they_are_needed_only(folder, pictures, tmp_path):
    nowhere = tmp_path / "nowhere.safetensors"
    (answer,) = run(folder, pictures[:1], mask_codec=nowhere, **SEGMENT)
    assert answer.parsed.detections[0].codes
    assert answer.parsed.detections[0].mask is None
    with pytest.raises(CheckpointError, match="no such mask codec"):
        run(folder, pictures[:1], mask_codec=nowhere, masks=True, **SEGMENT)
    assert run(folder, pictures[:1], mask_codec=nowhere, masks=True, **DETECT)[0].why_no_masks is None


@pytest.mark.usefixtures("codec")
def test_without_a_codec_of_its_own_a_model_answers_without_masks(folder, pictures, tmp_path):
    (answer,) = run(folder, pictures[:1], annotate=tmp_path / "out", **SEGMENT)
    assert isinstance(answer.why_no_masks, CheckpointError)
    assert answer.parsed.detections[0].mask is None
    assert answer.annotated.exists()


def test_a_sheet_has_all_pictures_and_those_that_cannot_be_read(folder, pictures, tmp_path):
    images = [*pictures, tmp_path / "nowhere.png"]
    for name in ("sheet.png", "sheet.html"):
        run(folder, images, sheet=tmp_path / "out" / name, batch_size=2, **DETECT)
    page = (tmp_path / "out" / "sheet.html").read_text()
    assert page.count("<img") == 5
    assert page.count("nowhere.png") == 1
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 3 * 320


def test_text_is_streamed_with_a_constraint_too(folder, pictures):
    pieces = []
    config = PredictConfig(model=str(folder), images=pictures[:1], **DETECT)
    (answer,) = predict.run(config, on_text=pieces.append)
    assert "".join(pieces) == answer.generation.text
    assert answer == run(folder, pictures[:1], **DETECT)[0]


def test_a_folder_that_cannot_be_written_is_a_work_error(folder, pictures):
    with pytest.raises(WorkError, match="could not be written"):
        run(folder, pictures[:1], annotate=Path("/proc/nowhere"))
