import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paligemma2.checkpoint.mask_codec_files import load_mask_codec, record_mask_codec, save_mask_codec
from paligemma2.inference.loading import load
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig
from paligemma2.processing.masks import rle_to_mask
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Clip, Generation
from tests.small_adapter import save_random_adapter
from tests.small_model import save_picture, save_small_model, small_config
from tests.small_video import save_clip

SHORT = ("--max-new-tokens", "4")
# The small model is random, but so its answers hold an object.
DETECT = ("--prompt", "detect cat ; dog", "--constrained", "--max-new-tokens", "12")
SEGMENT = ("--prompt", "segment cat ; dog", "--constrained", "--max-new-tokens", "30")


def texts(folder, pictures, prompt=""):
    model = load(folder)
    return [model.generate(picture, prompt, 4)[0].text for picture in pictures]


def test_one_picture_gives_the_text_alone(run, folder, pictures):
    ended = run("predict", "--model", folder, "--prompt", "caption en", pictures[0], *SHORT)
    assert ended.code == 0
    assert ended.out == texts(folder, pictures[:1], "caption en")[0] + "\n"
    assert ended.err == "note: the answer was cut at 4 tokens; give a larger --max-new-tokens\n"


def test_an_adapter_is_a_folder(run, folder, pictures, tmp_path):
    adapter = save_random_adapter(tmp_path / "adapter", small_config())
    words = ("predict", "--model", folder, "--prompt", "caption en", pictures[0], *SHORT)
    ended = run(*words, "--adapter", adapter)
    assert ended.code == 0
    assert ended.out == load(folder, adapter=adapter).generate(pictures[0], "caption en", 4)[0].text + "\n"
    assert ended.out != run(*words).out
    ended = run(*words, "--adapter", tmp_path)
    assert ended.code == 2
    assert f"error: {tmp_path}: no adapter_config.json" in ended.err


def test_several_pictures_give_a_line_each(run, folder, pictures):
    ended = run("predict", "--model", folder, *pictures, *SHORT)
    assert ended.code == 0
    expected = zip(pictures, texts(folder, pictures), strict=True)
    assert ended.out.splitlines() == [f"{picture}\t{text}" for picture, text in expected]
    assert "3 of 3 answers" in ended.err


def test_a_folder_gives_a_line_each_even_if_it_has_one_picture(run, folder, tmp_path):
    picture = save_picture(tmp_path / "in" / "a.png")
    ended = run("predict", "--model", folder, picture.parent, *SHORT)
    assert ended.out.startswith(f"{picture}\t")


def test_json_has_one_object_per_line(run, folder, pictures):
    ended = run("predict", "--model", folder, "--prompt", "ocr", "--json", *pictures, *SHORT)
    objects = [json.loads(line) for line in ended.out.splitlines()]
    assert [each["images"] for each in objects] == [[str(picture)] for picture in pictures]
    assert [each["text"] for each in objects] == texts(folder, pictures, "ocr")
    assert {each["prompt"] for each in objects} == {"ocr"}
    assert {each["finish_reason"] for each in objects} == {"length"}
    assert all(len(each["token_ids"]) == 4 for each in objects)
    assert ended.err == ""


def test_json_gives_boxes_as_fractions_and_in_pixels_and_scores(run, folder, pictures):
    ended = run("predict", "--model", folder, "--json", pictures[0], *DETECT)
    answer = json.loads(ended.out)
    (found,) = answer["detections"]
    assert found["label"] in ("cat", "dog")
    assert 0 < found["score"] <= 1
    box, pixels = found["box"], found["pixels"]
    assert list(box) == list(pixels) == ["y_min", "x_min", "y_max", "x_max"]
    assert pixels == pytest.approx({name: box[name] * (40 if name[0] == "y" else 60) for name in box})
    assert found["codes"] == []
    assert found["mask"] is None


def test_json_says_what_is_malformed_and_gives_masks_as_run_lengths():
    from paligemma2.cli.predict import _as_json
    from paligemma2.jobs.predict import Answer

    parsed = parse_answer("<loc0000><loc0000><loc1023><loc1023> cat ; <loc0003>")
    mask = np.random.default_rng(0).random((40, 60)) < 0.5
    cat = replace(parsed.detections[0], mask=mask)
    answer = Answer(
        images=(Path("a.png"),),
        sizes=((40, 60),),
        generation=Generation(text="", token_ids=(), finish_reason="stop", num_prompt_tokens=1),
        parsed=replace(parsed, detections=(cat,)),
    )
    written = json.loads(json.dumps(_as_json(answer, "segment cat")))
    assert (rle_to_mask(written["detections"][0]["mask"]) == mask).all()
    assert written["detections"][0]["pixels"] == {"y_min": 0.0, "x_min": 0.0, "y_max": 40.0, "x_max": 60.0}
    assert written["problems"][0]["reason"]
    assert written["problems"][0]["start"] == 43


def test_segment_draws_writes_json_and_says_why_masks_are_missing(run, tmp_path):
    folder = save_small_model(tmp_path / "model")
    codec = tmp_path / "codec.safetensors"
    save_mask_codec(codec, MaskCodec(MaskCodecConfig(embedding_size=4)), "random")
    record_mask_codec(folder, load_mask_codec(codec).record)
    words = ["predict", "--model", folder, save_picture(tmp_path / "a.png"), "--json", *SEGMENT]
    sheet = tmp_path / "sheet.html"
    ended = run(*words, "--mask-codec", codec, "--sheet", sheet)
    assert ended.code == 0
    assert ended.err == f"note: all pictures are in {sheet}\n"
    assert "a.png" in sheet.read_text()
    (found,) = json.loads(ended.out)["detections"]
    assert len(found["codes"]) == 16
    assert rle_to_mask(found["mask"]).shape == (40, 60)
    ended = run(*words)
    assert ended.code == 0
    assert json.loads(ended.out)["detections"][0]["mask"] is None
    assert ended.err.startswith("note: masks are not decoded: ")


def test_together_asks_once_about_all(run, folder, pictures):
    ended = run("predict", "--model", folder, "--together", "--json", *pictures, *SHORT)
    (line,) = ended.out.splitlines()
    assert json.loads(line)["images"] == [str(picture) for picture in pictures]


def test_a_video_gives_the_text_alone_and_a_folder_of_videos_a_line_each(run, folder, tmp_path):
    clips = [save_clip(tmp_path / "clips" / f"{first}.mp4", first=first) for first in range(2)]
    words = ["predict", "--model", folder, "-p", "caption en", *SHORT]
    model = load(folder)

    def text(clip, **settings):
        return model.generate(Clip(clip, **settings), "caption en", 4)[0].text

    assert run(*words, clips[0]).out == text(clips[0], num_frames=16) + "\n"
    assert run(*words, "--stride", "3", clips[0]).out == text(clips[0], stride=3) + "\n"
    ended = run(*words, "--frames", "3", "--stride", "9", "--json", tmp_path / "clips")
    objects = [json.loads(line) for line in ended.out.splitlines()]
    assert [each["images"] for each in objects] == [[str(clip)] for clip in clips]
    assert [each["text"] for each in objects] == [text(clip, num_frames=3, stride=9) for clip in clips]
    (tmp_path / "clip").write_bytes(clips[0].read_bytes())  # without an ending
    assert run(*words, "--frames", "3", tmp_path / "clip").out == text(clips[0], num_frames=3) + "\n"


def test_without_pyav_a_video_names_the_extra_and_pictures_work(run, folder, pictures, tmp_path, monkeypatch):
    clip = save_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    ended = run("predict", "--model", folder, clip)
    assert ended.has_failed_with("'av', which is not installed"), ended
    assert "paligemma2[video]" in ended.err
    assert run("predict", "--model", folder, pictures[0], *SHORT).code == 0


def test_annotate_writes_pictures(run, folder, pictures, tmp_path):
    ended = run("predict", "--model", folder, *pictures, *SHORT, "--annotate", tmp_path / "out")
    assert ended.code == 0
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == ["0.png", "1.png", "2.png"]
    with Image.open(written[0]) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (360, 240))


def test_line_breaks_and_tabs_in_an_answer_do_not_break_its_line():
    from paligemma2.cli.predict import _on_one_line

    assert _on_one_line("a\tb\nc\\n") == r"a\tb\nc\\n"


def test_a_bad_picture_among_many_is_named_and_the_others_are_done(run, folder, pictures, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    ended = run("predict", "--model", folder, pictures[0], bad, pictures[1], *SHORT, "--batch-size", "1")
    assert ended.code == 2
    assert [line.split("\t")[0] for line in ended.out.splitlines()] == [str(pictures[0]), str(pictures[1])]
    assert f"error: {bad}: not a readable image\n" in ended.err


def bomb(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("1", (20_000, 20_000)).save(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "a.png: no such file"),
        (lambda path: path.write_bytes(b"nonsense"), "a.png: not a readable image"),
        (lambda path: path.write_bytes(b""), "a.png: not a readable image"),
        (lambda path: path.write_bytes(save_picture(path).read_bytes()[:500]), "a.png: damaged image"),
        (lambda path: path.write_bytes(b"P6\n0 5\n255\n"), "a.png: "),
        (bomb, "a.png: "),
    ],
    ids=["missing", "corrupt", "empty", "cut short", "no pixels", "bomb"],
)
def test_a_bad_picture_ends_in_one_line(run, folder, tmp_path, make, message):
    make(tmp_path / "a.png")
    ended = run("predict", "--model", folder, tmp_path / "a.png")
    assert ended.has_failed_with(message), ended
    assert ended.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no image"),
        (("{picture}", "--model", "nonsense"), "no checkpoint at 'nonsense'"),
        (("{picture}", "--model", "{folder}", "--prompt", "x" * 1000), "the model's context is 512"),
        (("{picture}", "--model", "{folder}", "--max-new-tokens", "1000"), "leaves room for 506"),
        (("{picture}", "--model", "{folder}", "--max-new-tokens", "0"), "--max-new-tokens"),
        (("{picture}", "--model", "{folder}", "--dtype", "float16"), "dtype 'float16' is not supported"),
        (("{picture}", "--model", "{folder}", "--device", "abacus"), "device 'abacus' is not available"),
        (("{picture}", "--constrained"), "the prompt '' has no labels"),
        (("{picture}", "--sheet", "a.jpg"), "a.jpg is neither .png nor .html"),
        (("{picture}", "--sheet", "{picture}"), "is a folder or one of the pictures"),
        (("{picture}", "--modle", "tiny"), "No such option: --modle"),
        (("{empty}", "--model", "{folder}"), "no picture in this folder"),
        (("{empty}", "--frames", "4"), "no video in this folder"),
        (("{picture}", "--frames", "0"), "--frames"),
        (("{picture}", "--frames", "4", "--model", "{folder}"), "not a readable video"),
        (("{picture}", "--stride", "4"), "--stride is for videos"),
        (("nowhere.mp4", "--model", "{folder}"), "nowhere.mp4: no such file"),
    ],
)
def test_bad_input_ends_in_one_line(run, folder, pictures, tmp_path, words, message):
    places = {"picture": pictures[0], "folder": folder, "empty": tmp_path}
    ended = run("predict", *(word.format(**places) for word in words))
    assert ended.has_failed_with(message), ended
    assert ended.out == ""


def test_ctrl_c_keeps_what_is_printed(folder, tmp_path):
    for seed in range(200):
        save_picture(tmp_path / "in" / f"{seed:03d}.png", seed)
    words = ["predict", "--model", str(folder), str(tmp_path / "in"), "--batch-size", "1"]
    program = subprocess.Popen(
        [sys.executable, "-m", "paligemma2", *words, "--max-new-tokens", "400"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = program.stdout.readline()
    program.send_signal(signal.SIGINT)
    rest, error = program.communicate(timeout=60)
    assert first.startswith(str(tmp_path / "in" / "000.png") + "\t")
    assert len(rest.splitlines()) < 199
    assert program.returncode == 130
    assert error == "error: stopped by Ctrl-C\n"


def test_a_reader_that_goes_away_is_no_error(folder, pictures):
    read, write = os.pipe()
    os.close(read)
    words = ["predict", "--model", str(folder), *map(str, pictures), *SHORT]
    ended = subprocess.run(
        [sys.executable, "-m", "paligemma2", *words], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_how_tokens_are_chosen_can_be_set(run, folder, pictures):
    def text(*settings):
        words = [word for setting in settings for word in ("--set", setting)]
        ended = run("predict", "--model", folder, "-p", "ocr", "--max-new-tokens", "6", *words, pictures[0])
        assert ended.code == 0, ended.err
        return ended.out

    drawn = {text("method=sample", f"seed={seed}") for seed in range(4)}
    assert len(drawn) > 1
    assert text("method=sample", "seed=1") == text("method=sample", "seed=1") in drawn
    assert text("method=beam", "beams=1") == text()


def test_settings_that_make_no_sense_are_refused(run, folder, pictures):
    ended = run("predict", "--model", folder, "--set", "top_p=0.9", pictures[0])
    assert ended.has_failed_with("top_p is 0.9, which the method 'greedy' does not use")
    assert run("predict", "--set", "topp=0.9", pictures[0]).has_failed_with("is not a setting")
