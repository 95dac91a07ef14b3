import numpy as np
import pytest

from paligemma2.data.doctor.examples import Showcase, ShownExample, show_examples
from paligemma2.data.rows import DataRow
from paligemma2.types import Example
from tests.data.doctor.doctor_rows import BOX, row, tiny_processor


def shown(*rows: DataRow, text_length: int | None = None) -> tuple[ShownExample, ...]:
    return show_examples([("why", checked) for checked in rows], tiny_processor(), text_length=text_length)


def ids_of(example: ShownExample) -> list[int]:
    return [token.id for token in example.tokens for _ in range(token.count)]


def test_the_tokens_are_those_of_training() -> None:
    rows = [row("detect red circle", f"{BOX} red circle"), row("ocr", "é")]
    blank = np.zeros((112, 112, 3), dtype=np.uint8)
    examples = [Example(images=(blank,), prefix=asked.prefix, suffix=asked.suffix) for asked in rows]
    inputs = tiny_processor().encode(examples, train=True)
    assert inputs.loss_weights is not None
    for i, example in enumerate(shown(*rows)):
        assert ids_of(example) == inputs.token_ids[i].tolist()
        has_loss = [token.has_loss for token in example.tokens for _ in range(token.count)]
        assert has_loss == (inputs.loss_weights[i] > 0).tolist()


def test_every_token_has_its_role_and_text() -> None:
    long, short = shown(row("detect star", f"{BOX} star"), row("ocr", "é"))
    assert [(token.role, token.text, token.count) for token in long.tokens] == [
        ("image", "<image>", 64),
        ("prefix", "<bos>", 1),
        ("prefix", "detect", 1),
        ("prefix", " star", 1),
        ("separator", "\n", 1),
        *(("suffix", f"<loc0{number}00>", 1) for number in (1, 2, 3, 4)),
        ("suffix", " star", 1),
        ("end", "<eos>", 1),
    ]
    assert [token.role for token in short.tokens][-4:] == ["suffix", "suffix", "end", "padding"]
    assert [token.text for token in short.tokens][-4:-1] == ["<0xC3>", "<0xA9>", "<eos>"]


def test_the_mask_is_full_over_the_prefix_and_causal_over_the_suffix() -> None:
    _, example = shown(row("ocr", "<loc0001>" * 9), row("ocr", "<loc0001>" * 3))
    mask = example.mask
    for i, query in enumerate(mask.roles):
        for j, key in enumerate(mask.roles):
            if query == "padding" or key == "padding":
                assert not mask.is_visible[i, j]
            elif key in ("suffix", "end"):
                assert mask.is_visible[i, j] == (query in ("suffix", "end") and j <= i)
            else:
                assert mask.is_visible[i, j]
    assert [role for role, loss in zip(mask.roles, mask.has_loss, strict=True) if loss] == ["suffix"] * 3 + [
        "end"
    ]
    assert mask.roles.count("image") == 6


def test_a_row_that_does_not_fit_is_shown_with_its_cut() -> None:
    (example,) = shown(row("ocr", "<loc0001>" * 1000))
    assert len(ids_of(example)) == 64 + 3 + 1000 + 1
    assert sum(token.is_cut for token in example.tokens) == 64 + 3 + 1000 + 1 - 1024
    assert not any(token.has_loss for token in example.tokens if token.is_cut)
    assert len(example.mask.roles) < 200


def test_the_text_length_cuts_text_only() -> None:
    (example,) = shown(row("ocr", "<loc0001>" * 5, images=(b"", b"")), text_length=5)
    kept = [token for token in example.tokens if not token.is_cut]
    assert sum(token.count for token in kept) == 128 + 5


def test_what_cannot_be_tokens_is_left_out() -> None:
    assert shown(row("ocr", "\ud800"), row("", None)) == ()
    assert [example.prefix for example in shown(row("ocr", "\ud800"), row("caption en", "a"))] == [
        "caption en"
    ]


def test_the_first_the_longest_the_fullest_and_the_broken_are_chosen() -> None:
    showcase = Showcase(num_first=2)
    for line in range(1, 9):
        rules = ["malformed-answer"] if line in (5, 6) else []
        showcase.offer(row(suffix="x" * (50 if line == 7 else 1), line=line), 4 if line == 3 else 0, rules)
    assert {checked.line: why for why, checked in showcase.rows} == {
        1: "row 1",
        2: "row 2",
        3: "most objects",
        5: "the first with malformed-answer",
        7: "the longest text",
    }


def test_a_row_chosen_twice_is_shown_once() -> None:
    showcase = Showcase(num_first=1)
    showcase.offer(row(), 1, ["cut-text"])
    assert [why for why, _ in showcase.rows] == [
        "row 1, the longest text, most objects, the first with cut-text"
    ]


@pytest.mark.parametrize("num_first", [0])
def test_nothing_is_shown_where_nothing_is_wanted(num_first: int) -> None:
    showcase = Showcase(num_first)
    showcase.offer(row(), 1, ["cut-text"])
    assert showcase.rows == ()
