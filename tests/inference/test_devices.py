import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference.devices import device_named, dtype_named


@pytest.mark.parametrize(
    ("name", "dtype"), [("auto", None), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_a_dtype_has_its_name(name: str, dtype: torch.dtype | None) -> None:
    assert dtype_named(name) is dtype


def test_float16_is_refused_and_says_why() -> None:
    with pytest.raises(InputError, match="dtype 'float16' is not supported") as raised:
        dtype_named("float16")
    assert "overflow" in raised.value.hint


def test_an_unknown_dtype_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="dtype 'int8' is not supported") as raised:
        dtype_named("int8")
    assert raised.value.hint == "use one of auto, float32, bfloat16"


def test_auto_is_the_fastest_device_there_is() -> None:
    assert device_named("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_named("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99" if torch.cuda.is_available() else "cuda", "no such thing"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not available here"):
        device_named(name)
