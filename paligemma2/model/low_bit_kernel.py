"""Our own kernel for products with few bits per weight, in C, compiled when it is first wanted.

PyTorch's kernels reach 60 % of the rate of memory with 4 bits and less with 8, and a quarter of the rate of
arithmetic where a prompt is read (`benchmarks/low_bit_kernels.py`). This one needs a C compiler and a
processor with AVX-512 VNNI; `kernel` says whether both are here and the results are right.
"""

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from paligemma2.model.low_bit import GROUP, Bits, LowBits, quantize, restore

log = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("low_bit.c")
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
KERNEL_DTYPES = (torch.bfloat16, torch.float32)
"""Of activations."""
_ROWS = 16
_ROWS_AT_ONCE = 4096
_COMPILE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class PackedBits:
    """A matrix in the order of the kernel.

    Attributes:
        bits: 8 or 4.
        numbers: uint8 [blocks, columns / 4, 16, 4] for 8 bits, [blocks, columns / 8, 16, 4] for 4.
        scales: bfloat16 [blocks, groups, 16]; one group for 8 bits.
        rows: of the matrix; the last block may have more.
        columns: of the matrix; the last group may have more.
    """

    bits: Bits
    numbers: Tensor
    scales: Tensor
    rows: int
    columns: int

    @property
    def num_bytes(self) -> int:
        """That are kept."""
        return self.numbers.nbytes + self.scales.nbytes


def pack(low: LowBits) -> PackedBits:
    """Numbers and scales in the order of the kernel, filled up with rows and columns of zeros."""
    rows, columns = low.numbers.shape
    parts = [_ordered(some, low.bits) for some in torch.split(low.numbers, _ROWS_AT_ONCE)]
    scales = F.pad(low.scales, (0, 0, 0, -rows % _ROWS))
    return PackedBits(
        bits=low.bits,
        numbers=torch.cat(parts) if len(parts) > 1 else parts[0],
        scales=scales.view(-1, _ROWS, scales.shape[1]).transpose(1, 2).contiguous(),
        rows=rows,
        columns=columns,
    )


def _ordered(numbers: Tensor, bits: Bits) -> Tensor:
    filled = F.pad(numbers, (0, -numbers.shape[1] % GROUP, 0, -len(numbers) % _ROWS))
    unsigned = (filled + 8).view(torch.uint8) if bits == 4 else filled.view(torch.uint8) ^ 128
    fours = unsigned.view(torch.int32).view(len(filled) // _ROWS, _ROWS, -1)  # 4 columns move as one
    if bits == 8:
        return fours.transpose(1, 2).contiguous().view(torch.uint8).unflatten(2, (_ROWS, 4))  # type: ignore[no-untyped-call]
    low, high = fours[..., ::2].transpose(1, 2), fours[..., 1::2].transpose(1, 2)
    return (low | (high << 4)).contiguous().view(torch.uint8).unflatten(2, (_ROWS, 4))  # type: ignore[no-untyped-call]


def unpack_rows(packed: PackedBits, rows: Tensor) -> Tensor:
    """Some rows of a matrix of 8 bits: int64 [...] to float32 [..., columns]."""
    block, place = rows // _ROWS, rows % _ROWS
    numbers = packed.numbers[block, :, place].flatten(-2)[..., : packed.columns]
    return (numbers.float() - 128) * packed.scales[block, 0, place][..., None].float()


def multiply(x: Tensor, packed: PackedBits) -> Tensor:
    """Activations times weights, both of few bits: each group of 128 activations is rounded to 8 bits.

    Args:
        x: bfloat16 or float32 [tokens, columns], on the CPU.
        packed: from `pack`.

    Returns:
        [tokens, rows] in the dtype of `x`. If an activation of a token is not finite, its products are NaN.
    """
    library = kernel()
    assert library is not None, "the caller asks `kernel` first"
    return _multiply(library, x.contiguous(), packed)


def _multiply(library: ctypes.CDLL, x: Tensor, packed: PackedBits) -> Tensor:
    assert x.dtype in KERNEL_DTYPES, "the kernel would read memory of others"
    assert x.shape[1] == packed.columns, "the kernel would read memory of others"
    product = x.new_empty(x.shape[0], packed.rows)
    has_failed = library.multiply(
        x.data_ptr(),
        x.dtype == torch.bfloat16,
        packed.numbers.data_ptr(),
        packed.scales.data_ptr(),
        packed.bits,
        product.data_ptr(),
        x.shape[0],
        packed.rows,
        packed.columns,
        torch.get_num_threads(),
    )
    if has_failed:
        raise MemoryError("no memory for rounded activations")
    return product


@cache
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel if it can be had here and computes what it should; says in the log why not."""
    try:
        if not {"avx512f", "avx512bw", "avx512_vnni"} <= _processor_flags():
            raise OSError("the processor has no AVX-512 VNNI")
        library = _load()
        if not _is_right(library):
            raise OSError("the compiled kernel is wrong here")
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""  # by a compiler
        reason = said.decode(errors="replace").strip() or error
        log.warning("weights of 8 and 4 bits use PyTorch's kernels, which are slower: %s", reason)
        return None
    return library


def _is_right(library: ctypes.CDLL) -> bool:
    """Whether it agrees with the definition on a small product of each kind."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 200, generator=generator)
    x = torch.randn(17, 200, generator=generator)
    for low in (quantize(weight, 8), quantize(weight, 4)):
        expected = x @ restore(low).T
        product = _multiply(library, x, pack(low))
        if not torch.allclose(product, expected, atol=0.02 * expected.abs().max().item()):
            return False
    return True


def _load() -> ctypes.CDLL:
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        raise OSError("there is no C compiler")
    name = f"low_bit-{_key(compiler)}.so"
    try:
        return _made(compiler, _cache_folder() / name)
    except (OSError, RuntimeError):  # nowhere to keep it, or it cannot be run there; nobody knows the home
        with tempfile.TemporaryDirectory() as folder:  # a loaded file may be deleted
            return _made(compiler, Path(folder) / name)


def _made(compiler: str, target: Path) -> ctypes.CDLL:
    """The library at this place, compiled if it is not there; several processes may do so at once."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS)
            made.replace(target)
    return _typed(ctypes.CDLL(str(target)))


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    library.multiply.argtypes = [pointer, number, pointer, pointer, number, pointer, size, size, size, number]
    library.multiply.restype = number
    return library


def _cache_folder() -> Path:
    """Where the compiled kernel is kept for the next time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paligemma2"


def _key(compiler: str) -> str:
    """Of the source, the compiler and the processor that it is compiled for."""
    parts = (_SOURCE.read_bytes(), repr((compiler, _FLAGS, sorted(_processor_flags()))).encode())
    return hashlib.blake2b(b"".join(parts), digest_size=12).hexdigest()


@cache
def _processor_flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return frozenset(flags)
