import pytest
import torch

from paligemma2.assets import TINY_FOLDER
from paligemma2.cli.options import checkpoint_path, stored_dtype
from paligemma2.errors import InputError


def test_tiny_is_the_folder_inside_the_package():
    assert checkpoint_path("tiny") == TINY_FOLDER
    assert checkpoint_path("google/tiny") == "google/tiny"


def test_dtypes_are_read_by_name():
    assert stored_dtype("bfloat16") is torch.bfloat16
    assert stored_dtype(None) is None
    with pytest.raises(InputError, match="int8"):
        stored_dtype("int8")
