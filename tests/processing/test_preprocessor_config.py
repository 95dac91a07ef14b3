import json

import pytest

from paligemma2.checkpoint.save import preprocessor_settings
from paligemma2.errors import CheckpointError
from paligemma2.processing.image import HF, Resize
from paligemma2.processing.preprocessor_config import read_resize


def test_what_we_write_reads_back_as_bicubic(tmp_path, tiny_config):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor_settings(tiny_config)))
    assert read_resize(tmp_path, tiny_config) == HF


def test_the_one_file_form_of_transformers_5_is_read(tmp_path, tiny_config):
    content = {"image_processor": preprocessor_settings(tiny_config) | {"resample": 2}}
    (tmp_path / "processor_config.json").write_text(json.dumps(content))
    assert read_resize(tmp_path, tiny_config) == Resize("bilinear", convention="hugging_face")


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"height": 30, "width": 28}},
        {"size": 28},
        {"resample": "bicubic"},
        {"image_mean": [0.4, 0.5, 0.5]},
        {"do_normalize": False},
    ],
)
def test_pixels_of_another_model_are_refused(tmp_path, tiny_config, change):
    content = preprocessor_settings(tiny_config) | change
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=next(iter(change))):
        read_resize(tmp_path, tiny_config)


@pytest.mark.parametrize("text", ["{", "[]", "\0"])
def test_a_damaged_file_is_named(tmp_path, tiny_config, text):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        read_resize(tmp_path, tiny_config)
