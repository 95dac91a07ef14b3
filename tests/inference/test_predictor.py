import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import paligemma2
from paligemma2.checkpoint.mask_codec_files import save_mask_codec
from paligemma2.errors import CheckpointError, ImageError, InputError
from paligemma2.inference.constraints import answer_list, detect_grammar, segment_grammar
from paligemma2.inference.detection import Selection, select
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.model.mask_codec import MaskCodec, MaskCodecConfig
from paligemma2.processing import prompts as forms
from paligemma2.types import Box, Clip, Decoding
from tests.small_video import save_clip

PROMPTS = ("caption en", "", "answer en what is this ?", "detect cat ; dog", "ends in a newline\n", "é🦩")


@pytest.mark.parametrize("max_new_tokens", [1, 12])
def test_a_batch_gives_the_same_tokens_as_one_by_one(model, pictures, max_new_tokens):
    counts = (1, 3, 1, 2, 4, 1)
    images = [list(pictures[:count]) for count in counts]
    batch = model.generate(images, PROMPTS, max_new_tokens)
    alone = [model.generate(each, p, max_new_tokens)[0] for each, p in zip(images, PROMPTS, strict=True)]
    assert batch == alone
    assert len({answer.token_ids for answer in batch}) > 1


def test_a_batch_in_which_some_end_early_gives_the_same_as_one_by_one(model, pictures):
    answers = model.generate(list(pictures), ["caption en"] * 4, 12)
    ends = [token for answer in answers for token in answer.token_ids[1:] if token != answer.token_ids[0]]
    model.model.config = dataclasses.replace(model.config, eos_token_id=ends[0])
    batch = model.generate(list(pictures), ["caption en"] * 4, 12)
    assert batch == [model.generate(picture, "caption en", 12)[0] for picture in pictures]
    assert {answer.finish_reason for answer in batch} == {"stop", "length"}


def test_the_end_token_stops_and_is_left_out(model, array):
    (whole,) = model.generate(array, "caption en", 12)
    assert whole.finish_reason == "length"
    assert len(whole.token_ids) == 12
    end = whole.token_ids[-1]
    model.model.config = dataclasses.replace(model.config, eos_token_id=end)
    (cut,) = model.generate(array, "caption en", 12)
    assert cut.finish_reason == "stop"
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(end)]


def test_the_end_token_at_the_very_limit_counts_as_stop(model, array):
    (whole,) = model.generate(array, "caption en", 12)
    end = whole.token_ids[-1]
    model.model.config = dataclasses.replace(model.config, eos_token_id=end)
    limit = whole.token_ids.index(end) + 1
    assert model.generate(array, "caption en", limit)[0].finish_reason == "stop"


def test_the_empty_prompt_is_the_default_and_valid(model, array):
    (answer,) = model.generate(array, max_new_tokens=4)
    assert answer == model.generate(array, "", 4)[0]
    assert answer.num_prompt_tokens == model.config.num_image_tokens + 2


def test_pictures_may_come_in_any_form(model, pictures):
    from PIL import Image

    path = pictures[0]
    with Image.open(path) as picture:
        forms = [str(path), path, path.read_bytes(), picture.copy(), np.asarray(picture)]
    answers = {model.generate(image, "caption en", 6)[0] for image in forms}
    assert len(answers) == 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_pieces_of_a_stream_join_to_the_text(model, pictures, prompt):
    (whole,) = model.generate(list(pictures[:2]), prompt, 24)

    def collect():
        answer = yield from model.stream(list(pictures[:2]), prompt, 24)
        assert answer == whole

    pieces = list(collect())
    assert "".join(pieces) == whole.text
    assert len(pieces) > 1
    assert all(pieces)


def test_text_of_a_user_cannot_inject_tokens_and_a_typed_prompt_can(model, array):
    box = Box(y_min=0.0, x_min=0.0, y_max=0.5, x_max=0.5)
    typed = forms.caption_region(box)
    inside = set(model.encode(array, typed).token_ids[0].tolist())
    assert inside & set(model.processor.tokenizer.location_ids)
    plain = set(model.encode(array, str(typed) + "<image><eos>").token_ids[0, 4:].tolist())
    assert not plain & {*model.processor.tokenizer.location_ids, model.config.image_token_id, 1}


def test_the_short_forms_ask_the_trained_prompts(model, array):
    assert model.caption(array, "de") == model.generate(array, "caption de")[0].text
    question = model.generate(array, "answer en what is this?")[0].text
    assert model.answer(array, "what is this?") == question
    assert model.ocr(array) == model.generate(array, "ocr", 256)[0].text


def test_the_short_forms_fit_their_limit_into_the_context(model, pictures):
    room = 12
    many = [pictures[0]] * ((model.config.text.max_positions - room) // model.config.num_image_tokens)
    assert isinstance(model.ocr(many), str)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory) -> Path:
    return save_clip(tmp_path_factory.mktemp("video") / "clip.mp4")


def test_a_clip_stands_wherever_a_picture_may(model, array, clip_file):
    clip = Clip(clip_file, stride=9)  # frames 0, 9, 18, and again from the first
    frames = list(model.processor.frames(clip))
    assert len(frames) == 16
    (answer,) = model.generate(clip, "caption en", 6)
    assert answer.num_prompt_tokens == len(model.processor.prompt_ids("caption en", 16))
    assert (
        model.encode(clip, "caption en").token_ids.tolist()[0][: 16 * 4] == [model.config.image_token_id] * 64
    )
    assert answer == model.generate(frames, "caption en", 6)[0]
    assert model.caption(clip) == model.caption(frames)
    assert model.answer(clip, "what is this?") == model.answer(frames, "what is this?")
    assert "".join(model.stream(clip, "ocr", 6)) == model.generate(frames, "ocr", 6)[0].text
    assert model.score(clip, "ocr", ["cat"]) == model.score(frames, "ocr", ["cat"])
    assert model.detect(clip, "cat", max_new_tokens=8) == model.detect(frames, "cat", max_new_tokens=8)
    mixed = [[array, clip], clip, array]
    apart = [model.generate(images, "ocr", 6)[0] for images in mixed]
    assert model.generate(mixed, ["ocr"] * 3, 6) == apart


def test_other_frames_are_another_question(model, clip_file):
    every = [Clip(clip_file, num_frames=3, stride=1), Clip(clip_file, num_frames=3, stride=9)]
    first, second = model.generate(every, ["caption en"] * 2, 8)
    assert first.log_probs != second.log_probs


def test_probabilities_are_of_every_token_of_the_answer(model, pictures):
    for answer in model.generate(list(pictures), ["caption en", "detect cat", "ocr", ""], 12):
        assert len(answer.log_probs) == len(answer.location_log_probs) == len(answer.token_ids) > 0
        assert max(answer.log_probs + answer.location_log_probs) <= 1e-5


def test_a_limit_given_by_itself_goes_before_that_of_the_decoding(model, array):
    sampled = Decoding(max_new_tokens=9, method="sample", seed=3)
    assert len(model.generate(array, "ocr", decoding=sampled)[0].token_ids) == 9
    (short,) = model.generate(array, "ocr", 4, decoding=sampled)
    assert short.token_ids == model.generate(array, "ocr", decoding=sampled)[0].token_ids[:4]
    assert short.token_ids != model.generate(array, "ocr", 4)[0].token_ids


def test_a_stream_takes_the_same_settings_as_an_answer_at_once(model, array):
    sampled = Decoding(max_new_tokens=9, method="sample", seed=3)
    grammar = answer_list(model.processor.tokenizer, ["cat dog", "what is this ?"])
    for settings in ({"decoding": sampled}, {}):
        (whole,) = model.generate(array, "ocr", 12, constraints=[grammar], **settings)
        pieces = list(model.stream(array, "ocr", 12, constraint=grammar, **settings))
        assert "".join(pieces) == whole.text
        assert whole.text in ("cat dog", "what is this ?")


def test_what_is_detected_is_what_the_answer_says_with_scores(model, array):
    grammar = detect_grammar(model.processor.tokenizer, ["cat", "dog"])
    (answer,) = model.generate(array, "detect cat ; dog", 30, constraints=[grammar])
    every = Selection(iou_threshold=1.0)
    found = model.detect(array, "cat", "dog", constrained=True, selection=every, max_new_tokens=30)
    assert {each.label for each in found} <= {"cat", "dog"}
    assert found == select(model.read(answer).detections, every)
    assert all(each.score is not None and 0 <= each.score <= 1 for each in found)
    assert found


def test_an_unconstrained_model_writes_what_it_likes(model, array):
    (answer,) = model.generate(array, "detect cat", 40)
    assert model.detect(array, "cat", max_new_tokens=40) == select(model.read(answer).detections, Selection())


def test_many_labels_are_brought_together_for_each_picture(model, pictures):
    labels = ["cat", "dog", "bird", "fish", "red fish"]
    every = Selection(iou_threshold=1.0)
    options = {"constrained": True, "max_new_tokens": 30, "selection": every}
    many = list(model.detect_many(pictures[:2], labels, labels_per_prompt=2, **options))
    assert len(many) == 2
    for picture, found in zip(pictures, many, strict=False):
        groups = [("cat",), ("dog", "bird"), ("fish", "red fish")]
        alone = [each for group in groups for each in model.detect(picture, *group, **options)]
        scores = sorted((each.score for each in alone), reverse=True)
        places = [(each.label, each.box) for each in found]
        assert sorted(places, key=str) == sorted([(each.label, each.box) for each in alone], key=str)
        assert [each.score for each in found] == pytest.approx(scores, rel=1e-4)
    options["selection"] = Selection(iou_threshold=1.0, max_objects=1)
    limited = list(model.detect_many(pictures[:2], labels, labels_per_prompt=2, **options))
    assert limited == [found[:1] for found in many]


@pytest.fixture
def codec(tmp_path) -> Path:
    """A codec by the name of the official one, whose tokens a folder without a record has."""
    torch.manual_seed(0)
    made = MaskCodec(MaskCodecConfig(embedding_size=5))
    save_mask_codec(tmp_path / "codec.safetensors", made, "vae-oid")
    return tmp_path / "codec.safetensors"


def test_segments_have_masks_of_the_whole_picture(folder, codec, pictures):
    model = load(folder, device="cpu", mask_codec=codec)
    (found, *rest) = model.segment_many(pictures[:2], ["cat", "dog"], constrained=True, max_new_tokens=48)
    assert found
    assert len(rest) == 1
    for each in found:
        assert len(each.codes) == 16
        assert each.mask.shape == (40, 60)
        top, left, bottom, right = each.box.pixels(40, 60)
        outside = each.mask.copy()
        outside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = False
        assert not outside.any()
    once = model.segment(pictures[0], "cat", "dog", constrained=True, max_new_tokens=48)
    assert {each.label for each in once} <= {"cat", "dog"}
    assert once


def test_an_answer_is_read_with_masks_where_the_size_is_given(folder, codec, array):
    model = load(folder, device="cpu", mask_codec=codec)
    grammar = segment_grammar(model.processor.tokenizer, ["cat"], max_objects=2)
    (answer,) = model.generate(array, "segment cat", 60, constraints=[grammar])
    plain, masked = model.read(answer), model.read(answer, (30, 50))
    assert plain == masked
    assert plain.detections
    assert {each.mask for each in plain.detections} == {None}
    assert {each.mask.shape for each in masked.detections} == {(30, 50)}


def test_another_codec_than_the_models_is_refused(folder, tmp_path, array, codec):
    strange = tmp_path / "strange.safetensors"
    save_mask_codec(strange, MaskCodec(MaskCodecConfig(embedding_size=5)), "strange")
    model = load(folder, device="cpu", mask_codec=strange)
    with pytest.raises(CheckpointError, match="official codec, not of strange"):
        model.segment(array, "cat")
    assert isinstance(model.detect(array, "cat", max_new_tokens=8), tuple)  # which needs no codec


@pytest.mark.parametrize(
    ("images", "prompts", "match"),
    [
        ([], "caption en", "no image"),
        ([[]], ["caption en"], "no image"),
        ([], [], "no example"),
        ("a.png", ["one", "two"], "2 prompts but one picture"),
        (["a.png"], ["one", "two"], "2 prompts but 1 entries"),
        ("nowhere.png", "", "nowhere.png: no such file"),
        (Clip("nowhere.mp4"), "", "nowhere.mp4: no such file"),
        (Clip("nowhere.mp4", num_frames=0), "", "num_frames is 0"),
        (7, "", "a int is not an image"),
    ],
)
def test_bad_arguments_are_input_errors(model, images, prompts, match):
    with pytest.raises(InputError, match=match):
        model.generate(images, prompts)


def test_an_empty_picture_is_refused(model):
    with pytest.raises(ImageError, match="nothing to see"):
        model.generate(np.zeros((0, 5, 3), dtype=np.uint8))


def test_a_prompt_over_the_context_is_refused(model, array):
    with pytest.raises(InputError, match="the model's context is 512"):
        model.generate(array, "x" * 600)


def test_the_package_names_what_it_offers(folder):
    assert isinstance(paligemma2.load(folder), PaliGemma2)


METHODS = {
    "greedy": Decoding(max_new_tokens=10),
    "sample": Decoding(max_new_tokens=10, method="sample", seed=3),
    "best of": Decoding(max_new_tokens=10, method="sample", seed=3, best_of=3),
    "beam": Decoding(max_new_tokens=10, method="beam", beams=3),
}


@pytest.mark.parametrize("method", METHODS)
def test_each_row_of_a_batch_writes_with_its_adapter_what_a_model_of_such_weights_writes_alone(
    adapted, alone, pictures, method
):
    decoding = METHODS[method]
    names = ["first", None, "sees", "second", "first", None]
    asked = [pictures[0], pictures[0], pictures[0], [pictures[1], pictures[0]], pictures[2], pictures[0]]
    prompts = ["caption en"] * 4 + ["what is this ?", "caption en"]
    batch = adapted.generate(asked, prompts, decoding=decoding, adapter=names)
    for picture, prompt, name, answer in zip(asked, prompts, names, batch, strict=True):
        (expected,) = alone(name).generate(picture, prompt, decoding=decoding)
        assert answer.token_ids == expected.token_ids
        assert answer.log_probs == pytest.approx(expected.log_probs, abs=1e-3)
    assert len({answer.token_ids for answer in batch[:3]}) == 3


def test_one_adapter_is_used_by_everything_and_several_are_named(folder, adapters, adapted, array):
    plain, always = load(folder), load(folder, adapter=adapters["first"])
    (answer,) = always.generate(array, "caption en", 9)
    assert answer != plain.generate(array, "caption en", 9)[0]
    assert adapted.generate(array, "caption en", 9) == plain.generate(array, "caption en", 9)
    assert adapted.generate(array, "caption en", 9, adapter="first") == [answer]
    assert always.generate(array, "caption en", 9, adapter="first") == [answer]
    for model, settings in ((always, {}), (adapted, {"adapter": "first"})):
        assert "".join(model.stream(array, "caption en", 9, **settings)) == answer.text
    adapted.adapter = "first"
    for model in (always, adapted):
        assert model.caption(array) == adapted.generate(array, "caption en", adapter="first")[0].text
    assert adapted.generate([array] * 2, ["ocr"] * 2, 9, adapter=[None, "second"]) == [
        *always.generate(array, "ocr", 9),
        *adapted.generate(array, "ocr", 9, adapter="second"),
    ]
    adapted.adapter = None
    assert adapted.generate(array, "caption en", 9) == plain.generate(array, "caption en", 9)


def test_answers_are_scored_by_the_adapter_that_is_named(folder, adapters, adapted, alone, array):
    suffixes = ["cat", "dog", "what is this ?"]
    for name in adapters:
        expected = alone(name).score(array, "caption en", suffixes, batch_size=2)
        scored = adapted.score(array, "caption en", suffixes, batch_size=2, adapter=name)
        for each, other in zip(scored, expected, strict=True):
            assert each.log_probs == pytest.approx(other.log_probs, abs=1e-3)
    plain = adapted.score(array, "caption en", suffixes)
    assert plain == load(folder).score(array, "caption en", suffixes)
    assert abs(plain[0].log_prob - scored[0].log_prob) > 0.01


def test_an_unknown_adapter_is_refused_with_the_names_of_those_there_are(model, adapted, array):
    for ask in (
        lambda: adapted.generate(array, "ocr", 2, adapter="third"),
        lambda: adapted.generate([array] * 2, ["ocr"] * 2, 2, adapter=[None, "third"]),
        lambda: list(adapted.stream(array, "ocr", 2, adapter="third")),
        lambda: adapted.score(array, "ocr", ["cat"], adapter="third"),
        lambda: adapted.generate(array, "ocr", decoding=METHODS["beam"], adapter="third"),
    ):
        with pytest.raises(InputError, match="has no adapter 'third'") as raised:
            ask()
        assert raised.value.hint == "known: first, second, sees"
    with pytest.raises(InputError, match="has no adapter 'first'") as raised:
        model.generate(array, "ocr", 2, adapter="first")
    assert raised.value.hint == "name it in `load(…, adapter=…)`"
    with pytest.raises(InputError, match="2 adapters for 1 prompts"):
        adapted.generate(array, "ocr", 2, adapter=["first", "second"])


def test_an_engine_has_the_adapter_of_its_model_unless_a_row_names_one(adapted, array):
    adapted.adapter = "second"
    engine = adapted.engine(rows=2)
    inputs = adapted.encode([array, array], ["ocr", "ocr"])
    engine.add(inputs, [Decoding(max_new_tokens=1)] * 2, adapters=["first", None])
    written = [each.token.id for each in engine.step()]
    assert written == [
        adapted.generate(array, "ocr", 1, adapter=n)[0].token_ids[0] for n in ("first", "second")
    ]
