import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from paligemma2.model import low_bit_kernel
from paligemma2.model.low_bit import Bits, quantize, restore
from paligemma2.model.low_bit_kernel import kernel, multiply, pack, unpack_rows

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler, or no AVX-512 VNNI")


@pytest.fixture
def anew() -> Iterator[None]:
    """The kernel is looked for again, now and after the test."""
    kernel.cache_clear()
    yield
    kernel.cache_clear()


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 12, 13, 40])
@pytest.mark.parametrize("shape", [(32, 128), (24, 200), (7, 40), (160, 384)])
@pytest.mark.parametrize("bits", [8, 4])
def test_the_product_is_that_of_the_restored_weights(
    bits: Bits, shape: tuple[int, int], tokens: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    low = quantize(torch.randn(shape, generator=generator), bits)
    x = torch.randn(tokens, shape[1], generator=generator).to(dtype)
    expected = x.double() @ restore(low, torch.float64).T
    product = multiply(x, pack(low))
    assert (product.shape, product.dtype) == ((tokens, shape[0]), dtype)
    error = (product.double() - expected).norm() / expected.norm()
    assert error < 0.012  # activations are rounded to 8 bits


@needs_kernel
@pytest.mark.parametrize("bits", [8, 4])
def test_a_tokens_product_does_not_depend_on_the_others(bits: Bits) -> None:
    packed = pack(quantize(torch.randn(48, 256), bits))
    x = torch.randn(17, 256)
    together = multiply(x, packed)
    for token in range(17):
        assert torch.equal(multiply(x[token : token + 1], packed)[0], together[token])


@needs_kernel
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_shows_in_its_own_token_alone(value: float) -> None:
    packed = pack(quantize(torch.randn(48, 256), 8))
    x = torch.randn(5, 256)
    expected = multiply(x, packed)
    x[2, 200] = value
    product = multiply(x, packed)
    assert product[2].isnan().all()
    others = [0, 1, 3, 4]
    assert torch.equal(product[others], expected[others])


@needs_kernel
@pytest.mark.parametrize("scale", [0.0, 1e-39, 1e-30, 1e30])
def test_activations_of_any_size_work(scale: float) -> None:
    low = quantize(torch.randn(16, 128), 8)
    x = torch.randn(2, 128) * scale
    expected = x.double() @ restore(low, torch.float64).T
    assert ((multiply(x, pack(low)).double() - expected).norm() <= 0.012 * expected.norm() + 1e-35).all()


@needs_kernel
@pytest.mark.parametrize("shape", [(16, 128), (21, 100), (5000, 24)])
def test_rows_are_found_again(shape: tuple[int, int]) -> None:
    low = quantize(torch.randn(shape), 8)
    rows = torch.tensor([[0, 3], [shape[0] - 1, 7]])
    torch.testing.assert_close(unpack_rows(pack(low), rows), restore(low)[rows])


@pytest.mark.parametrize(
    ("compiler", "said"),
    [(None, "there is no C compiler"), ("false", "returned non-zero exit status")],
)
def test_without_a_compiler_that_works_there_is_no_kernel_and_the_log_says_why(
    anew: None,
    compiler: str | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(low_bit_kernel, "_processor_flags", lambda: {"avx512f", "avx512bw", "avx512_vnni"})
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name: which(compiler) if compiler else None)
    with caplog.at_level(logging.INFO):
        assert kernel() is None
    assert said in caplog.text


def test_a_processor_without_the_instructions_has_no_kernel(
    anew: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(low_bit_kernel, "_processor_flags", lambda: {"avx2"})
    with caplog.at_level(logging.INFO):
        assert kernel() is None
    assert "no AVX-512 VNNI" in caplog.text


@needs_kernel
def test_a_cache_that_cannot_be_written_does_not_matter(
    anew: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kernel() is not None


@needs_kernel
def test_processes_may_compile_at_the_same_time(tmp_path: Path) -> None:
    code = "from paligemma2.model.low_bit_kernel import kernel; assert kernel() is not None"
    environment = dict(os.environ) | {"XDG_CACHE_HOME": str(tmp_path)}
    runs = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    (kept,) = (tmp_path / "paligemma2").iterdir()
    assert kept.suffix == ".so"
