import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.model.prefix_mask import PrefixLayout

Row = list[tuple[int, bool]]  # (segment, is_prefix) of each token


@st.composite
def packed_rows(draw: st.DrawFn) -> list[Row]:
    """One to three rows of equal length: examples of prefix and suffix, padding before, between and after."""
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, 3))):
        row: Row = []
        for segment in range(1, draw(st.integers(0, 3)) + 1):
            row += [(0, draw(st.booleans()))] * draw(st.integers(0, 2))
            row += [(segment, True)] * draw(st.integers(0, 4)) + [(segment, False)] * draw(st.integers(0, 4))
        rows.append(row)
    seq = max(1, *(len(row) for row in rows)) if rows else 1
    return [
        [(0, False)] * (seq - len(row)) + row
        if draw(st.booleans())
        else row + [(0, False)] * (seq - len(row))
        for row in rows
    ]


def layout_of(rows: list[Row]) -> PrefixLayout:
    segments = torch.tensor([[segment for segment, _ in row] for row in rows])
    return PrefixLayout.from_segments(segments, torch.tensor([[prefix for _, prefix in row] for row in rows]))


def may_see(row: Row, query: int, key: int, window: int | None) -> bool:
    """The rule as it is written: prefix sees prefix, everything sees backwards, nothing sees padding."""
    (query_segment, query_prefix), (key_segment, key_prefix) = row[query], row[key]
    if query_segment == 0 or key_segment == 0 or query_segment != key_segment:
        return False
    if query_prefix and key_prefix:
        return True
    return key <= query and (window is None or query - key < window)


@settings(deadline=None, max_examples=150)
@given(rows=packed_rows(), window=st.none() | st.integers(1, 6))
def test_the_dense_mask_is_the_written_rule(rows: list[Row], window: int | None) -> None:
    dense = layout_of(rows).dense(window)
    seq = len(rows[0])
    assert dense.shape == (len(rows), 1, seq, seq)
    assert dense.dtype == torch.bool
    for (i, row), query, key in itertools.product(enumerate(rows), range(seq), range(seq)):
        assert bool(dense[i, 0, query, key]) == may_see(row, query, key, window), (i, query, key)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3))
def test_the_mask_is_that_of_big_vision(prefix: int, suffix: int, padding: int) -> None:
    is_valid = torch.tensor([[True] * (prefix + suffix) + [False] * padding], dtype=torch.bool)
    mask_ar = torch.tensor([[False] * prefix + [True] * (suffix + padding)], dtype=torch.bool)
    steps = mask_ar.int().cumsum(1)  # make_attn_mask of big_vision's models/proj/paligemma/paligemma.py
    expected = (steps[:, None, :] <= steps[:, :, None]) & is_valid[:, None, :] & is_valid[:, :, None]
    assert torch.equal(PrefixLayout.from_flags(is_valid, ~mask_ar).dense()[:, 0], expected)


@settings(deadline=None, max_examples=50)
@given(rows=packed_rows())
def test_positions_count_from_one_within_each_example(rows: list[Row]) -> None:
    positions = layout_of(rows).positions
    assert positions.dtype == torch.int64
    for i, row in enumerate(rows):
        seen: dict[int, int] = {}
        for j, (segment, _) in enumerate(row):
            seen[segment] = seen.get(segment, 0) + 1
            assert int(positions[i, j]) == (seen[segment] if segment else 1)


def test_a_later_prefix_token_is_seen_by_an_earlier_one() -> None:
    dense = layout_of([[(1, True)] * 4 + [(1, False)] * 2]).dense()[0, 0]
    assert dense[:4, :4].all()


def test_a_suffix_token_is_seen_only_from_itself_on() -> None:
    dense = layout_of([[(1, True)] * 2 + [(1, False)] * 3]).dense()[0, 0]
    assert not dense[:2, 2:].any()
    assert torch.equal(dense[2:, 2:], torch.ones(3, 3).tril().bool())
    assert dense[2:, :2].all()


def test_the_window_counts_the_token_itself_and_never_cuts_the_prefix() -> None:
    dense = layout_of([[(1, True)] * 4 + [(1, False)] * 3]).dense(window=2)[0, 0]
    assert dense[:4, :4].all()
    assert dense[4:].int().tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1, 1]]


def test_padding_marked_as_prefix_is_still_padding() -> None:
    is_valid = torch.tensor([[False, True, True, False]])
    layout = PrefixLayout.from_flags(is_valid, torch.ones_like(is_valid))
    assert torch.equal(layout.is_prefix, is_valid)
    assert torch.equal(layout.is_valid, is_valid)
    assert not layout.dense()[0, 0, :, [0, 3]].any()


def test_rows_of_padding_see_nothing() -> None:
    dense = layout_of([[(0, False), (1, True), (0, True)]]).dense()[0, 0]
    assert not dense[[0, 2]].any()


@settings(deadline=None, max_examples=50)
@given(rows=packed_rows())
def test_there_is_no_mask_exactly_where_everybody_sees_everybody(rows: list[Row]) -> None:
    layout = layout_of(rows)
    visible = layout.visible()
    assert (visible is None) == bool(layout.dense().all() and layout.is_prefix.all())
    assert visible is None or torch.equal(visible, layout.dense())


def test_whole_prefixes_need_no_mask() -> None:
    assert layout_of([[(1, True)] * 4] * 2).visible() is None


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (3,)])
def test_shapes_that_differ_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"must both be \[batch, seq\]"):
        PrefixLayout.from_segments(torch.ones(1, 4), torch.ones(shape, dtype=torch.bool))


def test_a_layout_moves_to_another_device_whole() -> None:
    moved = layout_of([[(1, True), (1, False)]]).to("meta")
    assert {moved.segments.device.type, moved.is_prefix.device.type, moved.positions.device.type} == {"meta"}


def test_spans_are_where_the_examples_are() -> None:
    segments = torch.tensor([[1, 1, 2, 2, 2, 0], [0, 1, 1, 0, 0, 0], [3, 3, 3, 3, 3, 3], [0] * 6])
    layout = PrefixLayout.from_segments(segments, torch.zeros_like(segments, dtype=torch.bool))
    assert layout.spans == ((0, 0, 2), (0, 2, 5), (1, 1, 3), (2, 0, 6))


def test_what_lies_between_wanted_tokens_is_wanted_too() -> None:
    segments = torch.tensor([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0]])
    layout = PrefixLayout.from_segments(segments, torch.ones_like(segments, dtype=torch.bool))
    is_wanted = torch.tensor([[0, 0, 0, 1, 1, 0], [1, 0, 1, 0, 0, 0]]).bool()
    examples = layout.examples(is_wanted)
    assert examples.wanted == ((0, 0, 0), (0, 3, 5), (1, 0, 3))
    assert examples.places is not None
    assert examples.places.tolist() == [3, 4, 6, 7, 8]
    assert examples.wanted_of(torch.arange(12).view(2, 6, 1)).flatten().tolist() == [3, 4, 6, 7, 8]


def test_whole_rows_are_computed_where_no_two_examples_share_one() -> None:
    flags = torch.ones(2, 4, dtype=torch.bool)
    assert PrefixLayout.from_flags(flags, flags).examples().unasked().spans is None
    packed = PrefixLayout.from_segments(torch.tensor([[1, 1, 2, 2]]), flags[:1])
    assert packed.examples().unasked().spans == packed.spans
    everything = packed.examples().wanted_of(torch.ones(1, 4, 3))
    assert everything.shape == (1, 4, 3)
