import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.data.doctor.lengths import TextLengths
from paligemma2.errors import InputError
from paligemma2.types import Example
from tests.data.doctor.doctor_rows import row, tiny_processor

WORDS = st.lists(st.sampled_from(["red", "circle", "ocr", "é", "<loc0001>"]), max_size=6).map(" ".join)


@settings(max_examples=25, deadline=None)
@given(WORDS, WORDS.filter(bool), st.integers(1, 3))
def test_the_length_is_that_of_the_row_in_training(prefix: str, suffix: str, num_images: int) -> None:
    import numpy as np

    blank = np.zeros((112, 112, 3), dtype=np.uint8)
    example = Example(images=(blank,) * num_images, prefix=prefix, suffix=suffix)
    encoded = tiny_processor().encode([example], train=True).token_ids.shape[1]
    lengths = TextLengths(tiny_processor())
    assert list(lengths.add(row(prefix, suffix, images=(b"",) * num_images))) == []
    found = lengths.lengths
    assert found is not None
    assert (found.largest_in_all, found.largest) == (encoded, encoded - 64 * num_images)


def test_a_row_is_refused_exactly_where_training_refuses_it() -> None:
    import numpy as np

    blank = np.zeros((112, 112, 3), dtype=np.uint8)
    most = 1024 - 64 - 4  # bos, "ocr", separator, eos
    for count, fits in [(most, True), (most + 1, False)]:
        suffix = "<loc0001>" * count
        example = Example(images=(blank,), prefix="ocr", suffix=suffix)
        found = list(TextLengths(tiny_processor()).add(row("ocr", suffix)))
        if fits:
            assert found == []
            tiny_processor().encode([example], train=True)
        else:
            assert [complaint.rule for complaint in found] == ["cannot-encode"]
            assert "1025 tokens, the model's context is 1024" in found[0].message
            with pytest.raises(InputError, match="1025"):
                tiny_processor().encode([example], train=True)


def test_what_cannot_be_tokens_is_reported() -> None:
    for prefix, suffix in [("ocr", "\ud800"), ("\ud800", "a")]:
        (complaint,) = TextLengths(tiny_processor()).add(row(prefix, suffix))
        assert complaint.rule == "cannot-encode"
        assert "half a character" in complaint.message


def test_text_behind_the_text_length_is_counted() -> None:
    lengths = TextLengths(tiny_processor(), text_length=10)
    assert list(lengths.add(row("ocr", "<loc0001>" * 6))) == []
    (complaint,) = lengths.add(row("ocr", "<loc0001>" * 9))
    assert complaint.rule == "cut-text"
    assert "13 tokens of text, the last 3" in complaint.message


def test_quantiles_are_of_the_rows() -> None:
    lengths = TextLengths(tiny_processor())
    for count in range(1, 101):
        assert list(lengths.add(row("ocr", "<loc0001>" * count))) == []
    found = lengths.lengths
    assert found is not None
    assert (found.median, found.percentile_95, found.largest, found.context) == (54, 99, 104, 1024)


def test_without_rows_there_are_no_lengths() -> None:
    assert TextLengths(tiny_processor()).lengths is None
