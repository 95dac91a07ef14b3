import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.data.doctor.findings import RULES
from paligemma2.data.doctor.text import answered, asked_labels, complaints
from paligemma2.data.rows import Annotation, DataRow
from tests.data.doctor.doctor_rows import BOX, annotation, row

MASK = "<seg001>" * 16
SWAPPED = "<loc0300><loc0200><loc0100><loc0400>"


def rules(checked: DataRow) -> list[str]:
    parsed = answered(checked.suffix) if checked.suffix else None
    return [complaint.rule for complaint in complaints(checked, parsed)]


def messages(checked: DataRow) -> str:
    parsed = answered(checked.suffix) if checked.suffix else None
    return "\n".join(complaint.message for complaint in complaints(checked, parsed))


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("caption en", "a cat on a mat"),
        ("ocr", "first line\nsecond line"),
        ("detect cat", f"{BOX} cat"),
        ("detect cat ; person's hat", f"{BOX} person's hat ; {BOX} cat ; {BOX} cat"),
        ("segment cat", f"{BOX}{MASK} cat"),
        ("", "4"),
    ],
)
def test_a_sound_row_has_nothing_wrong(prefix: str, suffix: str) -> None:
    assert rules(row(prefix, suffix)) == []


@pytest.mark.parametrize(
    ("prefix", "suffix", "rule", "part"),
    [
        ("ocr", " \n ", "empty-suffix", "empty"),
        ("detect cat", "a cat", "malformed-answer", "asks to detect, the suffix has no box"),
        ("segment cat", "cat", "malformed-answer", "asks to segment, the suffix has no box"),
        ("detect cat", "<loc0100><loc0200><loc0300> cat", "malformed-answer", "at 1: "),
        ("detect cat", f"{BOX} cat ; {SWAPPED} cat", "malformed-answer", "at 44: "),
        ("segment cat", f"{BOX}{'<seg001>' * 15} cat", "malformed-answer", "15"),
        ("segment cat", f"{BOX}{MASK} cat ; {BOX} cat", "malformed-answer", "1 of 2 objects have no mask"),
        ("detect cat", f"{BOX} dog ; {BOX} cat", "unasked-label", "'dog'"),
        ("detect cat ; dog", f"{BOX} dog", "absent-label", "'cat'"),
        ("detect cat", f"{BOX} Cat", "unasked-label", "'Cat'"),
        ("ocr", "stop<eos>", "special-text", "<eos> in the suffix"),
        ("<image>ocr", "stop", "special-text", "<image> in the prefix"),
        (f"caption {BOX}", "a cat", "special-text", "<loc0100> in the prefix"),
        ("ocr\n", "stop", "special-text", "ends in a newline"),
        ("ocr", "stop\r", "odd-characters", "U+000D in the suffix at 5"),
        ("caf\ufffd", "stop", "odd-characters", "U+FFFD in the prefix at 4"),
    ],
)
def test_what_is_wrong_is_named(prefix: str, suffix: str, rule: str, part: str) -> None:
    assert rule in rules(row(prefix, suffix))
    assert part in messages(row(prefix, suffix))


def test_many_labels_are_not_all_listed() -> None:
    asked = " ; ".join(f"thing {i}" for i in range(10))
    assert "'thing 1', 'thing 2', 'thing 3' and 6 more" in messages(row(f"detect {asked}", f"{BOX} thing 0"))


@pytest.mark.parametrize(
    ("thing", "part"),
    [
        (annotation(0.5, 0.1, 0.4, 0.2), "the wrong way round"),
        (annotation(0.1, 0.3, 0.4, 0.2), "the wrong way round"),
        (annotation(-0.1, 0.1, 0.4, 0.2), "out of the picture"),
        (annotation(0.1, 0.1, 0.4, 1.01), "out of the picture"),
        (annotation(0.1, 0.1, 0.1, 0.2), "no area"),
        (annotation(float("nan"), 0.1, 0.1, 0.2), "no number"),
        (annotation(0.1, 0.1, float("inf"), 0.2), "no number"),
    ],
)
def test_a_bad_box_is_named(thing: Annotation, part: str) -> None:
    checked = row("detect cat", f"{BOX} cat", objects=(annotation(0, 0, 1, 1), thing))
    assert rules(checked) == ["bad-box"]
    assert part in messages(checked)


def test_the_noise_of_rounding_is_no_bad_box() -> None:
    assert rules(row("detect cat", f"{BOX} cat", objects=(annotation(-1e-6, 0, 1, 1.00001),))) == []


def test_a_picture_without_objects_is_only_noted() -> None:
    assert rules(row("", None)) == ["no-objects"]
    assert RULES["no-objects"].severity == "note"


@pytest.mark.parametrize(
    ("prefix", "labels"),
    [
        ("detect cat ; dog;cat ;", ("cat", "dog")),
        ("segment the left red circle", ("the left red circle",)),
        ("detection", None),
        ("caption en", None),
        ("detect ", ()),
    ],
)
def test_labels_are_read_from_the_prefix(prefix: str, labels: tuple[str, ...] | None) -> None:
    assert asked_labels(prefix) == labels


@given(st.text(), st.text() | st.lists(st.sampled_from([BOX, MASK, "<loc0001>", " cat", " ; "])).map("".join))
def test_any_text_can_be_examined(prefix: str, suffix: str) -> None:
    assert set(rules(row(prefix, suffix))) <= set(RULES)
