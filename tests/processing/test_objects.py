import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.processing.locations import indices_to_box
from paligemma2.processing.objects import codes_to_text, object_to_text, objects_to_suffix, order_objects
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Box, Detection

CODES = tuple(range(112, 128))


def thing(label, y_min=0.25, x_min=0.25, y_max=0.75, x_max=0.75, codes=()):
    return Detection(label=label, box=Box(y_min=y_min, x_min=x_min, y_max=y_max, x_max=x_max), codes=codes)


LABELS = st.text().map(lambda text: text.replace(";", ",")) | st.sampled_from(
    ["person's hat", "a < b", "<loc"]
)


@st.composite
def things(draw):
    y_min, x_min = draw(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)))
    # A box that is wider than a step stays a box when it is rounded.
    y_max = draw(st.floats(y_min + 1.01 / 1023, 1))
    x_max = draw(st.floats(x_min + 1.01 / 1023, 1))
    codes = draw(st.just(()) | st.just(CODES))
    return thing(draw(LABELS), y_min, x_min, y_max, x_max, codes)


@pytest.mark.parametrize(
    ("objects", "suffix"),
    [
        ([], ""),
        ([thing("cat", 0.0, 7 / 1023, 0.5, 1.0)], "<loc0000><loc0007><loc0512><loc1023> cat"),
        ([thing(" cat\n")], "<loc0256><loc0256><loc0767><loc0767> cat"),
        ([thing("")], "<loc0256><loc0256><loc0767><loc0767>"),
        (
            [thing("cat"), thing("cat", y_max=1.0)],
            "<loc0256><loc0256><loc0767><loc0767> cat ; <loc0256><loc0256><loc1023><loc0767> cat",
        ),
        (
            [thing("cat", codes=CODES)],
            "<loc0256><loc0256><loc0767><loc0767>" + "".join(f"<seg{code}>" for code in CODES) + " cat",
        ),
    ],
)
def test_objects_are_written_as_the_model_writes_them(objects, suffix):
    assert objects_to_suffix(objects) == suffix


@settings(deadline=None, max_examples=60)
@given(st.lists(things(), max_size=5), st.sampled_from([1023, 1024]))
def test_what_is_written_is_read_back(objects, divisor):
    parsed = parse_answer(objects_to_suffix(objects, divisor=divisor), divisor=divisor)
    for found, written in zip(parsed.detections, objects, strict=True):
        assert (found.label, found.codes) == (written.label.strip(), written.codes)
        # The last of 1024 steps is missing there: an edge at 1.0 comes back as 1023/1024.
        step = 0.5 / 1023 if divisor == 1023 else 1 / 1024
        assert dataclasses.astuple(found.box) == pytest.approx(
            dataclasses.astuple(written.box), abs=step + 1e-9
        )
    assert {problem.reason for problem in parsed.problems} <= {"the box has no label"}
    assert parsed.text == ""


def is_refused(label):
    try:
        object_to_text(thing(label))
    except InputError:
        return True
    return False


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(["<loc0001>", "<seg001>", "<loc1>", "<", ";", "a"])).map("".join))
def test_a_label_is_written_only_if_it_is_read_back(label):
    if is_refused(label):
        assert ";" in label or "<loc" in label or "<seg" in label
    else:
        found = parse_answer(object_to_text(thing(label))).detections
        assert [item.label for item in found] == [label.strip()]


@pytest.mark.parametrize("label", ["cat ; dog", ";", "<loc0001>", "a <seg001>", "<loc12> cat"])
def test_labels_that_would_be_read_as_something_else_are_refused(label):
    with pytest.raises(InputError, match="cannot be a label"):
        objects_to_suffix([thing("dog"), thing(label)])


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (thing("cat", x_max=0.2501), "256, 256 to 767, 256"),
        (thing("cat", y_min=0.8), "818, 256 to 767, 767"),
        (thing("cat", x_min=1.2, x_max=1.5), "256, 1023 to 767, 1023"),
    ],
)
def test_a_box_that_would_be_empty_is_refused(item, found):
    with pytest.raises(InputError, match=f"'cat' is empty: locations {found}"):
        objects_to_suffix([item])


def test_a_box_that_goes_over_the_edge_is_cut_there():
    assert (
        objects_to_suffix([thing("cat", y_min=-0.5, x_max=1.5)]) == "<loc0000><loc0256><loc0767><loc1023> cat"
    )


def test_a_box_must_have_numbers():
    with pytest.raises(InputError, match="not a number"):
        objects_to_suffix([thing("cat", y_min=math.nan)])


@pytest.mark.parametrize("codes", [(1,), (1,) * 17, (128,) * 16, (-1,) * 16])
def test_codes_that_make_no_mask_are_refused(codes):
    with pytest.raises(InputError, match="are not the codes of a mask"):
        codes_to_text(codes)


UPPER_RIGHT = thing("upper right, small", 0.0, 0.8, 0.2, 1.0)
LEFT = thing("left, large", 0.5, 0.0, 1.0, 0.5)
UPPER_MIDDLE = thing("upper middle, wide", 0.0, 0.1, 0.2, 0.95)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("given", [UPPER_RIGHT, LEFT, UPPER_MIDDLE]),
        ("left_to_right", [LEFT, UPPER_MIDDLE, UPPER_RIGHT]),
        ("top_to_bottom", [UPPER_MIDDLE, UPPER_RIGHT, LEFT]),
        ("largest_first", [LEFT, UPPER_MIDDLE, UPPER_RIGHT]),
    ],
)
def test_objects_are_put_in_order(order, expected):
    given_ones = [UPPER_RIGHT, LEFT, UPPER_MIDDLE]
    assert order_objects(given_ones, order) == expected
    labels = [found.label for found in parse_answer(objects_to_suffix(given_ones, order=order)).detections]
    assert labels == [item.label for item in expected]


@pytest.mark.parametrize("order", ["left_to_right", "top_to_bottom", "largest_first"])
def test_equals_keep_the_order_given(order):
    twins = [Detection(label=label, box=indices_to_box((1, 2, 3, 4))) for label in "bac"]
    assert order_objects(twins, order) == twins
