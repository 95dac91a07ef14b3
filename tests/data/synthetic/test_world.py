import hashlib
import subprocess
import sys

import numpy as np
import pytest

from paligemma2.data.synthetic.world import (
    SPLITS,
    labelled_sample,
    pair_sample,
    scene_sample,
    segment_sample,
    word_sample,
)
from paligemma2.errors import InputError

_MAKERS = {"scene": scene_sample, "word": word_sample, "pair": pair_sample, "segment": segment_sample}


@pytest.mark.parametrize("size", [84, 112])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", _MAKERS)
def test_a_sample_is_the_same_every_time(name, split, size):
    first, again = (_MAKERS[name](split, 3, size=size) for _ in range(2))
    assert first.rows == again.rows
    assert len(first.images) == (2 if name == "pair" else 1)
    for image, other in zip(first.images, again.images, strict=True):
        assert (image.dtype, image.shape) == (np.uint8, (size, size, 3))
        np.testing.assert_array_equal(image, other)


def test_a_sample_is_the_same_in_another_process():
    code = (
        "import hashlib; from paligemma2.data.synthetic.world import scene_sample as make;"
        "pictures = b''.join(make('train', i, size=84).images[0].tobytes() for i in range(5));"
        "print(hashlib.sha256(pictures).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = b"".join(scene_sample("train", i, size=84).images[0].tobytes() for i in range(5))
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()


@pytest.mark.parametrize("name", ["scene", "pair"])
def test_no_picture_is_in_two_splits(name):
    pictures = [
        image.tobytes()
        for split in SPLITS
        for index in range(60)
        for image in _MAKERS[name](split, index, size=32).images
    ]
    assert len(set(pictures)) == len(pictures)


def test_training_and_test_share_no_word():
    words = {split: {word_sample(split, i, size=16).rows[0].suffix for i in range(150)} for split in SPLITS}
    assert not words["train"] & (words["validation"] | words["test"] | words["test_other_style"])


def test_questions_do_not_depend_on_the_size_of_the_picture():
    assert scene_sample("train", 5, size=84).rows == scene_sample("train", 5, size=112).rows


def test_half_of_the_labelled_samples_are_words():
    labels = [labelled_sample("train", index, size=84, patch_size=14)[1] for index in range(200)]
    words = sum(bool(label.letter.any()) for label in labels)
    assert 70 < words < 130
    assert words + sum(bool(label.shape.any()) for label in labels) == 200


def test_labelled_samples_have_the_promised_types():
    image, labels = labelled_sample("validation", 0, size=112, patch_size=14)
    assert (image.dtype, image.shape) == (np.uint8, (112, 112, 3))
    for name in ("shape", "color", "letter", "order"):
        assert getattr(labels, name).dtype == np.int64
        assert getattr(labels, name).shape == (8, 8)
    assert (labels.box.dtype, labels.box.shape) == (np.float32, (8, 8, 4))


@pytest.mark.parametrize(
    "arguments",
    [("train", 0, {"size": 4}), ("train", 0, {"size": 84, "max_objects": 9}), ("x", 0, {"size": 84})],
)
def test_arguments_out_of_range_are_refused(arguments):
    split, index, options = arguments
    with pytest.raises(InputError):
        scene_sample(split, index, **options)


def test_scenes_need_no_typeface():
    code = (
        "import sys; [sys.modules.__setitem__(name, None) for name in"
        " ('font_manrope', 'font_caladea', 'font_source_sans_pro', 'font_fredoka_one')];"
        "from paligemma2.data.synthetic.world import scene_sample, pair_sample;"
        "scene_sample('train', 0, size=84); pair_sample('test', 0, size=84);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
