from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.weights import Problems, StoredTensor, check_tensors, dtype_name, main_dtype
from paligemma2.errors import CheckpointError

HALF = torch.bfloat16


def test_all_faults_are_told_in_one_error_that_counts_and_names_them() -> None:
    problems = Problems()
    found = {
        "a": StoredTensor((2, 3), HALF),
        "b": StoredTensor((4,), torch.int8),
        "x1": StoredTensor((1,), HALF),
    }
    expected = {"a": (3, 2), "b": (4,), **{f"m{i}": (1,) for i in range(5)}}
    check_tensors(found, expected, problems)
    with pytest.raises(CheckpointError) as raised:
        problems.raise_if_any(Path("there"), hint="do this")
    assert raised.value.message == (
        "there: 1 with a wrong shape (a: [2, 3], not [3, 2]); 1 not floating point (b: int8); "
        "5 missing (m0, m1, m2, …); 1 unexpected (x1)"
    )
    assert raised.value.hint == "do this"


def test_no_faults_raise_nothing() -> None:
    problems = Problems()
    check_tensors({"a": StoredTensor((2,), HALF)}, {"a": (2,)}, problems)
    problems.raise_if_any(Path(), hint="")
    assert not problems


def test_absence_proves_nothing_when_a_file_could_not_be_read() -> None:
    problems = Problems()
    check_tensors({}, {"a": (2,)}, problems, is_complete=False)
    assert not problems


def test_the_main_dtype_is_that_of_most_numbers() -> None:
    tensors = {"a": StoredTensor((2,), torch.float32), "b": StoredTensor((3,), HALF)}
    assert main_dtype(tensors) is HALF
    assert dtype_name(HALF) == "bfloat16"


def test_eight_bit_floats_become_bfloat16() -> None:
    assert main_dtype({"a": StoredTensor((2,), torch.float8_e4m3fn)}) is HALF
