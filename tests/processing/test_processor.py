import dataclasses
import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from paligemma2.errors import CheckpointError, ImageError, InputError
from paligemma2.model.config import preset
from paligemma2.processing import prompts
from paligemma2.processing.image import BIG_VISION, HF
from paligemma2.processing.processor import Processor
from paligemma2.processing.tokenizer import LOCATION_TOKENS, MASK_TOKENS
from paligemma2.processing.video import read_clip
from paligemma2.types import Box, Clip, EditedPicture, Example
from tests.small_video import frame_numbers, save_clip

PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
PROMPTS = (
    "caption en",
    "",
    "detect cat ; dog",
    "answer en what is this?",
    "ends in a newline\n",
    " spaced ",
    "é🦩",
)
# transformers 5.23 hands numpy a tensor in the old way.
IGNORE_THEIR_WARNING = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def processor(tiny, tiny_config):
    return Processor(tiny, tiny_config)


@pytest.fixture(scope="module")
def reference(gemma_folder):
    """transformers' processor over the Gemma vocabulary, four tokens per image."""
    from transformers import PaliGemmaProcessor, PreTrainedTokenizerFast
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(gemma_folder / "tokenizer.json"),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
    )
    tokenizer.add_tokens([*LOCATION_TOKENS, *MASK_TOKENS])  # the processor adds <image> behind them
    return PaliGemmaProcessor(images, tokenizer)


@pytest.fixture(scope="module")
def gemma_config(tiny_config):
    return dataclasses.replace(preset("paligemma2-3b-pt-224"), vision=tiny_config.vision)


@pytest.mark.golden
@IGNORE_THEIR_WARNING
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_joined_form_equals_transformers(reference, gemma, gemma_config, prompt):
    processor = Processor(gemma, gemma_config, separator="joined")
    suffix = "<loc0001><loc0002><loc0003><loc1023> cat"
    theirs = reference(images=[[Image.fromarray(PIXELS)]], text=[prompt], suffix=[suffix])
    ours = processor.encode([Example(images=(PIXELS,), prefix=prompt, suffix=suffix)], train=True)
    assert ours.token_ids[0].tolist() == list(theirs["input_ids"][0])
    assert (ours.loss_weights[0] > 0).tolist() == [bool(t) for t in theirs["token_type_ids"][0]]
    np.testing.assert_array_equal(ours.pixel_values[0].numpy(), theirs["pixel_values"][0])


@pytest.mark.golden
def test_the_separator_alone_differs_only_where_the_prefix_ends_in_a_newline(gemma, gemma_config):
    alone = Processor(gemma, gemma_config)
    joined = Processor(gemma, gemma_config, separator="joined")
    for prompt in PROMPTS:
        assert (alone.prompt_ids(prompt) == joined.prompt_ids(prompt)) == (not prompt.endswith("\n"))
    assert alone.prompt_ids("cat\n")[-2:] == [108, 108]
    assert joined.prompt_ids("cat\n")[-1] == 109


def test_a_prompt_is_image_tokens_bos_prefix_newline(processor, tiny):
    expected = [tiny.image_id] * 8 + [tiny.bos_id, *tiny.encode("caption en"), *tiny.newline_ids]
    assert processor.prompt_ids("caption en", num_images=2) == expected


@pytest.mark.parametrize("separator", ["alone", "joined"])
def test_the_empty_prompt_is_valid(tiny, tiny_config, separator):
    processor = Processor(tiny, tiny_config, separator=separator)
    assert processor.prompt_ids() == [tiny.image_id] * 4 + [tiny.bos_id, *tiny.newline_ids]


def test_location_tokens_of_a_typed_prompt_are_real_and_those_of_text_are_not(processor, tiny):
    box = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
    typed = processor.prompt_ids(prompts.caption_region(box))
    assert [i for i in typed if i in tiny.location_ids] == [tiny.location_ids[i] for i in (0, 0, 1023, 1023)]
    typed_by_user = processor.prompt_ids(str(prompts.caption_region(box)))
    assert not [i for i in typed_by_user if i in tiny.location_ids]


@pytest.mark.parametrize("separator", ["alone", "joined"])
def test_a_typed_prompt_ends_in_the_separator(tiny, tiny_config, separator):
    processor = Processor(tiny, tiny_config, separator=separator)
    box = Box(y_min=0.0, x_min=0.0, y_max=1.0, x_max=1.0)
    assert processor.prompt_ids(prompts.caption_region(box))[-2:] == [
        tiny.location_ids[1023],
        *tiny.newline_ids,
    ]


def test_special_tokens_in_a_prompt_are_plain_text(processor, tiny):
    ids = processor.prompt_ids("<eos><bos><image><loc0001>")
    assert ids.count(tiny.image_id) == 4
    assert ids.count(tiny.bos_id) == 1
    assert tiny.eos_id not in ids


def test_training_rows_are_padded_right_and_weigh_suffix_and_eos(processor, tiny):
    batch = processor.encode(
        [
            Example(images=(PIXELS,), prefix="caption en", suffix="cat ; dog", id="a"),
            Example(images=(PIXELS, PIXELS), prefix="", suffix="cat", id="b"),
        ],
        train=True,
    )
    for row, (prompt, suffix) in enumerate([(("caption en", 1), "cat ; dog"), (("", 2), "cat")]):
        prefix = processor.prompt_ids(*prompt)
        learnt = [*tiny.encode(suffix), tiny.eos_id]
        length = len(prefix) + len(learnt)
        assert batch.token_ids[row, :length].tolist() == prefix + learnt
        assert (batch.token_ids[row, length:] == tiny.pad_id).all()
        assert batch.loss_weights[row].nonzero().flatten().tolist() == list(range(len(prefix), length))
        assert batch.layout.is_prefix[row].nonzero().flatten().tolist() == list(range(len(prefix)))
        assert batch.layout.is_valid[row].nonzero().flatten().tolist() == list(range(length))
    assert batch.pixel_values.shape == (1, 3, 28, 28)  # one picture, used three times
    assert batch.image_index.tolist() == [0, 0, 0]
    assert batch.ids == ("a", "b")
    dtypes = (batch.token_ids.dtype, batch.pixel_values.dtype, batch.loss_weights.dtype)
    assert dtypes == (torch.int64, torch.float32, torch.float32)


def test_each_picture_is_prepared_once_and_kept_in_order(processor):
    other = 255 - PIXELS
    rows = ((PIXELS, other), (other,), (PIXELS.copy(),))
    batch = processor.encode([Example(images=images) for images in rows], train=False)
    assert batch.pixel_values.shape == (3, 3, 28, 28)
    assert batch.image_index.tolist() == [0, 1, 1, 2]
    torch.testing.assert_close(batch.pixel_values[0], batch.pixel_values[2], rtol=0, atol=0)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("video") / "clip.mp4", 6)


def test_a_clip_is_as_many_pictures_as_it_has_frames(processor, clip_file):
    clip = Clip(clip_file, num_frames=4, stride=2)
    batch = processor.encode([Example(images=(PIXELS, clip, PIXELS), prefix="caption en")], train=False)
    assert batch.token_ids[0].tolist() == processor.prompt_ids("caption en", num_images=6)
    assert batch.pixel_values.shape == (4, 3, 28, 28)  # frames 0, 2, 4 and the picture
    assert batch.image_index.tolist() == [0, 1, 2, 3, 1, 0]
    frames = read_clip(clip, 28)
    assert frame_numbers(frames) == [0, 2, 4, 0]
    np.testing.assert_array_equal(batch.pixel_values[1:].numpy(), np.stack(frames[:3]))


@pytest.mark.parametrize("resize", [HF, BIG_VISION])
def test_frames_are_resized_as_frames_whatever_pictures_are(tiny, tiny_config, clip_file, resize):
    clip = Clip(clip_file, num_frames=2)
    frames = Processor(tiny, tiny_config, resize).frames(clip)
    np.testing.assert_array_equal(np.stack(frames), np.stack(read_clip(clip, 28)))


def test_a_clip_about_which_several_ask_is_read_once(processor, clip_file, monkeypatch):
    read = []
    monkeypatch.setattr(
        "paligemma2.processing.processor.read_clip", lambda *a: read.append(a) or read_clip(*a)
    )
    clips = [Clip(clip_file, num_frames=2), Clip(clip_file, num_frames=2), Clip(clip_file, num_frames=3)]
    examples = [Example(images=(clip,), suffix="cat") for clip in clips]
    batch = processor.encode(examples, train=True)
    assert len(read) == 2
    assert batch.image_index.tolist() == [0, 1, 0, 1, 2, 3, 4]


def test_a_clip_that_does_not_fit_is_refused_before_it_is_read(processor):
    with pytest.raises(InputError, match=r"64 image \+ 2 text = 66 tokens"):
        processor.encode([Example(images=(Clip("nowhere.mp4"),))], train=False)
    with pytest.raises(InputError, match="num_frames is -1"):
        processor.encode([Example(images=(PIXELS, PIXELS, Clip("nowhere.mp4", num_frames=-1)))], train=False)
    with pytest.raises(ImageError, match=r"nowhere\.mp4: no such file"):
        processor.encode([Example(images=(Clip("nowhere.mp4", num_frames=2),))], train=False)


def test_pixels_that_are_ready_are_left_as_they_are(processor):
    ready = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28)).astype(np.float32)
    assert processor.pixels(ready) is ready
    for wrong in (ready * 127, ready * np.float32("nan")):
        with pytest.raises(ImageError, match="float pixels from"):
            processor.pixels(wrong)
    with pytest.raises(ImageError, match="is not an image"):
        processor.pixels(ready[:, :14])


def test_prompts_are_padded_left_without_suffix_or_weights(processor, tiny):
    examples = [Example(images=(PIXELS,), prefix=text, suffix="cat") for text in ("caption en", "")]
    batch = processor.encode(examples, train=False)
    assert batch.loss_weights is None
    for row, text in enumerate(("caption en", "")):
        ids = processor.prompt_ids(text)
        assert batch.token_ids[row, -len(ids) :].tolist() == ids
        assert (batch.token_ids[row, : -len(ids)] == tiny.pad_id).all()
        assert batch.layout.is_valid[row].sum() == batch.layout.is_prefix[row].sum() == len(ids)


def test_the_padding_side_can_be_chosen(processor):
    examples = [Example(images=(PIXELS,), prefix=text) for text in ("caption en", "")]
    batch = processor.encode(examples, train=False, padding_side="right")
    assert batch.layout.is_valid[1, 0]
    assert not batch.layout.is_valid[1, -1]


@pytest.mark.parametrize("resize", [HF, BIG_VISION])
def test_an_array_of_the_right_size_is_only_scaled(tiny, tiny_config, resize):
    processor = Processor(tiny, tiny_config, resize)
    np.testing.assert_array_equal(processor.pixels(PIXELS), processor.pixels(Image.fromarray(PIXELS)))
    expected = PIXELS.transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(processor.pixels(PIXELS), expected, atol=2e-7)


def test_no_image_is_an_input_error(processor):
    with pytest.raises(InputError, match="no image"):
        processor.encode([Example(images=(), prefix="caption en")], train=False)


def test_no_example_is_an_input_error(processor):
    with pytest.raises(InputError, match="no example"):
        processor.encode([], train=False)


def test_no_suffix_to_train_on_is_an_input_error(processor):
    with pytest.raises(InputError, match="'x' has no suffix"):
        processor.encode([Example(images=(PIXELS,), id="x")], train=True)


def test_the_context_counts_image_tokens(processor):
    assert len(processor.prompt_ids("." * 58)) == 64
    with pytest.raises(InputError, match=r"4 image \+ 61 text = 65 tokens, the model's context is 64"):
        processor.prompt_ids("." * 59)
    with pytest.raises(InputError, match="64 image"):
        processor.prompt_ids("", num_images=16)


def test_a_megabyte_of_prompt_is_refused_before_it_is_tokenised(processor):
    with pytest.raises(InputError, match="1000000 characters"):
        processor.prompt_ids("a" * 1_000_000)


def test_suffix_and_prompt_together_must_fit(processor):
    with pytest.raises(InputError, match="prompt and suffix"):
        processor.encode([Example(images=(PIXELS,), prefix="." * 50, suffix="." * 10)], train=True)


def test_a_batch_moves_to_a_device(processor):
    batch = processor.encode([Example(images=(PIXELS,), suffix="cat")], train=True).to("meta")
    assert {
        batch.token_ids.device.type,
        batch.layout.segments.device.type,
        batch.loss_weights.device.type,
    } == {"meta"}


def test_a_folder_without_image_settings_resizes_as_the_released_ones(tmp_path, tiny_json, tiny_config):
    (tmp_path / "tokenizer.json").write_text(tiny_json, encoding="utf-8")
    assert Processor.from_folder(tmp_path, tiny_config).resize == HF
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": 0}))
    with pytest.raises(CheckpointError, match="resample 0"):
        Processor.from_folder(tmp_path, tiny_config)


def test_every_example_knows_its_pictures(processor, tiny_config):
    first, second = PIXELS, PIXELS[::-1].copy()
    asks = [((first, second), "caption en"), ((second,), "ocr"), ((first,), "")]
    inputs = processor.encode([Example(images=i, prefix=p) for i, p in asks], train=False)
    assert [places.tolist() for places in inputs.pictures(tiny_config)] == [[0, 1], [1], [0]]


def test_an_outline_is_drawn_after_the_resize(processor):
    plain = Image.new("RGB", (100, 50), (10, 200, 30))
    data = BytesIO()
    plain.save(data, "PNG")
    box = Box(y_min=0.25, x_min=0.25, y_max=0.75, x_max=0.75)
    pixels = processor.pixels(EditedPicture(source=data.getvalue(), outline=box))
    is_red = (pixels == np.array([1, -1, -1])[:, None, None]).all(axis=0)
    first, last = int(0.25 * (pixels.shape[1] - 1)), int(0.75 * (pixels.shape[1] - 1))
    assert is_red.sum() == 4 * (last - first)
    assert is_red[first, first:last].all()
