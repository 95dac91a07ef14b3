import dataclasses

import numpy as np
import pytest

from paligemma2.data.synthetic.samples import Row, Sample


def test_rows_are_compared_by_value_and_cannot_be_changed():
    row = Row(task="ocr", kind="ocr", prefix="ocr", suffix="DOG")
    assert row == dataclasses.replace(row)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.suffix = "CAT"


def test_samples_are_compared_by_identity_because_arrays_have_no_truth():
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    assert Sample(images=(image,), rows=()) != Sample(images=(image,), rows=())
