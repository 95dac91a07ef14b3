from pathlib import Path

import numpy as np
import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference import devices
from paligemma2.inference.devices import device_named, dtype_named, dtype_on, form_for
from paligemma2.inference.loading import load
from paligemma2.model.half_linear import has_half_kernels
from paligemma2.model.packed_linear import has_packed_kernels
from paligemma2.model.restored_linear import RestoredLinear

NO_MPS = [] if torch.backends.mps.is_available() else ["mps"]


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


@pytest.mark.parametrize(
    "name", ["cuda:99" if torch.cuda.is_available() else "cuda", "no such thing", *NO_MPS]
)
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not available here"):
        device_named(name)


def test_weights_are_kept_as_the_processor_is_good_at(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(devices, "has_bfloat16_arithmetic", lambda: False)
    assert form_for(cpu, torch.bfloat16).dtype == torch.float32
    assert (form_for(cpu, torch.bfloat16).linear is None) == (not has_half_kernels())
    monkeypatch.setattr(devices, "has_bfloat16_arithmetic", lambda: True)
    assert form_for(cpu, torch.bfloat16).dtype == torch.bfloat16
    for dtype in (torch.float32, torch.bfloat16):
        assert (form_for(cpu, dtype).linear is None) == (not has_packed_kernels(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_on_a_gpu_stay_as_they_are(dtype: torch.dtype) -> None:
    form = form_for(torch.device("cuda"), dtype)
    assert (form.dtype, form.linear, form.table) == (dtype, None, None)


def test_weights_that_may_not_be_packed_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bfloat16_arithmetic", lambda: False)
    form = form_for(torch.device("cpu"), torch.bfloat16, may_pack=False)
    assert (form.dtype, form.linear, form.table) == (torch.bfloat16, None, None)


def test_rounded_weights_that_may_not_be_packed_let_gradients_through() -> None:
    form = form_for(torch.device("cpu"), torch.float32, may_pack=False, quantize="int8")
    assert form.linear is not None
    assert isinstance(form.linear("it", torch.nn.Linear(4, 4)), RestoredLinear)


def test_activations_never_run_in_float16() -> None:
    assert form_for(torch.device("cpu"), torch.float16).dtype == torch.float32


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this MPS device has bfloat16")
def test_an_mps_device_without_bfloat16_gets_float32() -> None:
    device = torch.device("mps")
    assert dtype_on(device, None) == dtype_on(device, torch.float32) == torch.float32
    with pytest.raises(InputError, match="'bfloat16' is not available on this device"):
        dtype_on(device, torch.bfloat16)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_another_device_keeps_the_dtype(dtype: torch.dtype | None) -> None:
    assert dtype_on(torch.device("cpu"), dtype) is dtype


def test_packed_weights_write_what_wide_ones_do(
    folder: Path, array: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16_arithmetic", lambda: False)
    packed = load(folder, device="cpu", dtype="bfloat16")
    wide = load(folder, device="cpu", dtype="float32", for_training=True)
    with torch.no_grad():
        for parameter in wide.model.parameters():
            parameter.copy_(parameter.bfloat16())
    # The scaled embedding is rounded as the table is; that is part of the model.
    wide.model.language_model.embed = packed.model.language_model.embed  # type: ignore[method-assign]
    for prompt in ("caption en", "ocr", "detect cat"):
        assert packed.generate(array, prompt, 8) == wide.generate(array, prompt, 8)
