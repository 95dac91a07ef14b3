import pytest
import torch

from paligemma2.assets import TINY_FOLDER
from paligemma2.cli.options import checkpoint_path, decoding_of, stored_dtype
from paligemma2.errors import InputError
from paligemma2.types import Decoding


def test_tiny_is_the_folder_inside_the_package():
    assert checkpoint_path("tiny") == TINY_FOLDER
    assert checkpoint_path("google/tiny") == "google/tiny"


def test_dtypes_are_read_by_name():
    assert stored_dtype("bfloat16") is torch.bfloat16
    assert stored_dtype(None) is None
    with pytest.raises(InputError, match="int8"):
        stored_dtype("int8")


def test_settings_are_read_as_what_they_are():
    assert decoding_of([]) == Decoding()
    words = ["method=sample", "top_p=0.9", "top_k=5", "seed=3", "stop= and", "stop=a=b"]
    assert decoding_of(words) == Decoding(method="sample", top_p=0.9, top_k=5, seed=3, stop=(" and", "a=b"))


@pytest.mark.parametrize(
    ("setting", "match", "hint"),
    [
        ("top-p=0.9", "--set 'top-p=0.9' is not a setting", "did you mean top_p=…?"),
        ("warmth=1", "--set 'warmth=1' is not a setting", "known: method, temperature"),
        ("beams", "--set 'beams' is not a setting and its value", "known: method"),
        ("max_new_tokens=3", "is not a setting", "known: method"),
        ("beams=many", "beams is 'many'", "give a number, as in beams=3"),
        ("top_k=", "top_k is ''", "give a number, as in top_k=3"),
        ("temperature=hot", "temperature is 'hot'", "give a number, as in temperature=0.7"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused(setting, match, hint):
    with pytest.raises(InputError, match=match) as raised:
        decoding_of([setting])
    assert raised.value.hint.startswith(hint)
