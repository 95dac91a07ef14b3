import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.metrics.ptb_characters import character_sets, complement, read_ranges

UNITS = st.integers(0, 0xFFFF)


def is_in(unit: int, name: str) -> bool:
    return any(low <= unit <= high for low, high in character_sets()[name])


@given(st.lists(st.tuples(UNITS, UNITS).map(lambda pair: tuple(sorted(pair))), max_size=5), UNITS)
def test_a_unit_is_in_a_set_or_in_its_complement(ranges: list[tuple[int, int]], unit: int) -> None:
    inside, outside = (
        any(low <= unit <= high for low, high in some) for some in (ranges, complement(tuple(ranges)))
    )
    assert inside is not outside


def test_ranges_are_read_as_hexadecimal_numbers() -> None:
    assert read_ranges(" 0041-005A\n 00AA") == ((0x41, 0x5A), (0xAA, 0xAA))


@pytest.mark.parametrize("letter", "aZßéñžжΩאبकกか漢한ʼªﬁ")
def test_letters_of_many_scripts_are_letters(letter: str) -> None:
    assert is_in(ord(letter), "alphabetic")


def test_letters_younger_than_unicode_6_2_are_none() -> None:
    for letter in "\u08a1\u0cf3\u1c80\ua7c2":  # of Unicode 7, 15, 9 and 12
        assert not is_in(ord(letter), "letter")


def test_vowel_signs_count_as_letters_but_not_in_every_script() -> None:
    assert is_in(ord("\u093e"), "letter")  # Devanagari
    assert is_in(ord("\u0e31"), "letter")  # Thai
    assert not is_in(ord("\u0ccd"), "letter")  # Kannada
    assert not is_in(ord("\u103b"), "letter")  # Burmese


def test_digits_are_not_letters() -> None:
    for digit in "09٣९๕７":
        assert is_in(ord(digit), "digit")
        assert not is_in(ord(digit), "letter")
