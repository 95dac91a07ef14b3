import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from paligemma2.model import low_bit_kernel
from paligemma2.model.low_bit import Bits, LowBits, quantize, restore
from paligemma2.model.low_bit_kernel import kernel, multiply, pack, unpack_rows

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler, or no AVX-512 VNNI")
USE = """
import logging, torch
logging.basicConfig(level="INFO")
from paligemma2.model.low_bit import quantize
from paligemma2.model.quantized_linear import QuantizedLinear
torch.manual_seed(0)
weight, x = torch.randn(64, 128), torch.randn(3, 128)
print(float((QuantizedLinear(quantize(weight, 8), None)(x) - x @ weight.T).abs().max()))
"""
"""A program that multiplies, and prints by how much it is off."""


@pytest.fixture
def fresh() -> Iterator[None]:
    """`kernel` forgets what it found, before and after."""
    kernel.cache_clear()
    yield
    kernel.cache_clear()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger=low_bit_kernel.__name__)
    return caplog


def random_low(rows: int, columns: int, bits: Bits) -> LowBits:
    return quantize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)), bits)


def random_x(tokens: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(tokens)
    return torch.randn(tokens, columns, generator=generator) * 10 ** torch.linspace(-3, 3, tokens)[:, None]


def bound(x: Tensor, low: LowBits) -> Tensor:
    """By how much a product may be off: each activation by half a step of its group of 128."""
    weight = restore(low).double().abs()
    total = torch.zeros(len(x), len(weight), dtype=torch.float64)
    for part, columns in zip(x.double().split(128, dim=1), weight.split(128, dim=1), strict=True):
        total += part.abs().amax(dim=1, keepdim=True) / 254 * columns.sum(dim=1)
    return total


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "columns"), [(16, 128), (1, 1), (15, 127), (33, 129), (50, 300), (64, 1152)]
)
@pytest.mark.parametrize("bits", [4, 8])
def test_products_are_off_by_no_more_than_rounded_activations_make_them(
    bits: Bits, rows: int, columns: int, dtype: torch.dtype
) -> None:
    low = random_low(rows, columns, bits)
    packed = pack(low)
    for tokens in (1, 3, 4, 5, 12, 13, 40):
        x = random_x(tokens, columns).to(dtype)
        product = multiply(x, packed)
        assert product.dtype == dtype
        assert product.shape == (tokens, rows)
        expected = x.double() @ restore(low).double().T
        result_rounding = expected.abs() * torch.finfo(dtype).eps / 2
        off = (product.double() - expected).abs()
        assert bool(
            (off <= 1.001 * bound(x, low) + 1.01 * result_rounding + 1e-6 * bound(x, low).max()).all()
        )
        # Most errors cancel out: a bug that the bound leaves room for would show here.
        if columns > 1000:
            assert float(off.mean() / expected.abs().mean()) < 0.01


@needs_kernel
@pytest.mark.parametrize("bits", [4, 8])
def test_whole_numbers_are_multiplied_exactly(bits: Bits) -> None:
    generator = torch.Generator().manual_seed(0)
    most = 127 if bits == 8 else 7
    numbers = torch.randint(-most, most + 1, (40, 300), generator=generator, dtype=torch.int8)
    scales = torch.ones(40, 1 if bits == 8 else 3, dtype=torch.bfloat16)
    x = torch.randint(-127, 128, (14, 300), generator=generator).float()
    x[:, ::128] = 127  # the scale of each group is 1
    product = multiply(x, pack(LowBits(bits=bits, numbers=numbers, scales=scales)))
    assert torch.equal(product, x @ numbers.float().T)


@needs_kernel
@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_numbers_everywhere_do_not_overflow(bits: Bits) -> None:
    for sign in (-1.0, 1.0):
        low = quantize(torch.full((16, 16384), sign), bits)
        product = multiply(torch.ones(5, 16384), pack(low))
        torch.testing.assert_close(product, restore(low).sum(dim=1).expand(5, -1), rtol=1e-6, atol=0)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_token_gets_the_same_bits_whatever_stands_beside_it(bits: Bits, dtype: torch.dtype) -> None:
    packed = pack(random_low(50, 300, bits))
    x = random_x(41, 300).to(dtype)
    alone = torch.cat([multiply(x[row : row + 1], packed) for row in range(41)])
    for start, end in ((0, 41), (0, 4), (3, 8), (7, 19), (5, 18), (1, 41)):
        assert torch.equal(multiply(x[start:end], packed), alone[start:end])


@needs_kernel
@pytest.mark.parametrize("bits", [4, 8])
def test_the_number_of_threads_changes_nothing(bits: Bits) -> None:
    packed = pack(random_low(200, 300, bits))
    x = random_x(20, 300)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(multiply(x, packed))
    finally:
        torch.set_num_threads(before)
    with ThreadPoolExecutor(4) as pool:
        results += pool.map(lambda _: multiply(x, packed), range(12))
    assert all(torch.equal(result, results[0]) for result in results)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("bits", [4, 8])
def test_an_activation_that_is_not_finite_spoils_its_own_token_and_no_other(
    bits: Bits, value: float, dtype: torch.dtype
) -> None:
    packed = pack(random_low(20, 200, bits))
    x = random_x(7, 200).to(dtype)
    clean = multiply(x, packed)
    for column in (0, 127, 199):
        spoilt = x.clone()
        spoilt[2, column] = value
        product = multiply(spoilt, packed)
        assert not bool(product[2].isfinite().any())
        others = [0, 1, 3, 4, 5, 6]
        assert torch.equal(product[others], clean[others])


@needs_kernel
def test_zeros_tiny_and_huge_activations_give_what_they_should() -> None:
    low = random_low(16, 128, 8)
    packed = pack(low)
    for value, expected in ((0.0, 0.0), (1e-30, 1e-30), (1e-42, 0.0), (1e30, 1e30)):
        product = multiply(torch.full((1, 128), value), packed)
        torch.testing.assert_close(product[0], expected * restore(low).sum(dim=1), rtol=1e-4, atol=1e-36)
    assert bool(multiply(torch.full((1, 128), 3e38), packed).isinf().any())


@needs_kernel
def test_no_tokens_give_no_products_and_strides_are_respected() -> None:
    packed = pack(random_low(20, 200, 4))
    assert multiply(torch.empty(0, 200), packed).shape == (0, 20)
    x = random_x(3, 400)
    assert torch.equal(multiply(x[:, ::2], packed), multiply(x[:, ::2].contiguous(), packed))


@needs_kernel
@pytest.mark.parametrize("x", [torch.ones(2, 199), torch.ones(2, 200, dtype=torch.float16)])
def test_what_the_kernel_would_misread_is_refused(x: Tensor) -> None:
    with pytest.raises(AssertionError, match="memory of others"):
        multiply(x, pack(random_low(20, 200, 8)))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (16, 128), (35, 300), (4100, 24)])
def test_rows_of_a_packed_matrix_are_those_that_were_packed(rows: int, columns: int) -> None:
    low = random_low(rows, columns, 8)
    ids = torch.randint(0, rows, (3, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpack_rows(pack(low), ids), restore(low)[ids])


@pytest.mark.parametrize(("bits", "num_bytes"), [(8, 9216 * (2304 + 2)), (4, 9216 * (2304 // 2 + 2 * 18))])
def test_a_matrix_takes_its_bits_and_two_bytes_for_each_scale(bits: Bits, num_bytes: int) -> None:
    numbers = torch.zeros(9216, 2304, dtype=torch.int8)
    scales = torch.ones(9216, 1 if bits == 8 else 18, dtype=torch.bfloat16)
    assert pack(LowBits(bits=bits, numbers=numbers, scales=scales)).num_bytes == num_bytes


def test_without_vnni_there_is_no_kernel_and_the_log_says_so(
    fresh: None, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_bit_kernel, "_processor_flags", lambda: frozenset({"avx512f", "avx512bw"}))
    assert kernel() is None
    assert "no AVX-512 VNNI" in log.text


@needs_kernel
def test_without_a_compiler_there_is_no_kernel_and_the_log_says_so(
    fresh: None, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernel() is None
    assert "there is no C compiler" in log.text


@needs_kernel
def test_what_a_failing_compiler_says_is_in_the_log(
    fresh: None, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_program(tmp_path / "cc", "echo 'no space for your kernel' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert kernel() is None
    assert "no space for your kernel" in log.text
    assert list((tmp_path / "cache" / "paligemma2").iterdir()) == []


@needs_kernel
@pytest.mark.parametrize("script", ['shift $(($# - 2)); echo nothing > "$1"', "exit 0"])
def test_a_compiler_that_makes_no_library_is_no_compiler(
    fresh: None, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    write_program(tmp_path / "cc", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert kernel() is None
    assert "which are slower" in log.text


@needs_kernel
def test_a_kernel_that_computes_something_else_is_not_used(
    fresh: None, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "wrong.c"
    text = low_bit_kernel._SOURCE.read_text()
    assert text.count("setzero_ps()") > 1
    source.write_text(text.replace("total[t] = _mm512_setzero_ps()", "total[t] = _mm512_set1_ps(9)"))
    monkeypatch.setattr(low_bit_kernel, "_SOURCE", source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert kernel() is None
    assert "wrong here" in log.text


@needs_kernel
@pytest.mark.parametrize("is_there", [True, False])
def test_without_a_folder_to_keep_it_the_kernel_is_compiled_anyway(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_there: bool
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    if is_there:
        (tmp_path / "cache").write_text("a file")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", no_home)
    assert kernel() is not None
    assert list((tmp_path / "temporary").iterdir()) == []


@needs_kernel
def test_a_damaged_file_in_the_cache_is_passed_over(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel() is not None
    (kept,) = (tmp_path / "paligemma2").iterdir()
    damaged = kept.with_suffix(".new")
    damaged.write_bytes(b"not a library")
    damaged.replace(kept)  # a new file: the old one is in use
    kernel.cache_clear()
    assert kernel() is not None


@needs_kernel
def test_another_processor_or_source_has_a_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {low_bit_kernel._key("cc"), low_bit_kernel._key("clang")}
    with monkeypatch.context() as patch:
        patch.setattr(low_bit_kernel, "_processor_flags", lambda: frozenset({"avx512f"}))
        keys.add(low_bit_kernel._key("cc"))
    (tmp_path / "other.c").write_text("int other;")
    monkeypatch.setattr(low_bit_kernel, "_SOURCE", tmp_path / "other.c")
    keys.add(low_bit_kernel._key("cc"))
    assert len(keys) == 4


@needs_kernel
def test_processes_that_compile_at_once_all_get_the_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(low_bit_kernel.__file__).parents[2]))
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", USE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for program in programs:
        out, err = program.communicate()
        assert program.returncode == 0, err
        assert float(out) < 1.0
        assert "slower" not in err
    assert [path.suffix for path in (tmp_path / "paligemma2").iterdir()] == [".so"]


def test_a_program_works_equally_without_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(low_bit_kernel.__file__).parents[2]))
    done = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0
    assert "weights of 8 and 4 bits use PyTorch's kernels" in done.stderr


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
