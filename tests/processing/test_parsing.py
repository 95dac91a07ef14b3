import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.processing.locations import box_to_text, indices_to_box
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Detection

CAT = (10, 20, 500, 600)
CAT_TEXT = "<loc0010><loc0020><loc0500><loc0600>"
CODES = tuple(range(16))
CODES_TEXT = "".join(f"<seg{code:03d}>" for code in CODES)
FRAGMENTS = st.sampled_from(
    [
        "<loc0010>",
        "<loc0900>",
        "<loc1024>",
        "<seg001>",
        "<seg128>",
        CAT_TEXT,
        CODES_TEXT,
        " cat",
        " ; ",
        "<",
        ">",
        "é",
    ]
)


def cat(label="cat", codes=(), divisor=1023):
    return Detection(label=label, box=indices_to_box(CAT, divisor=divisor), codes=codes)


@pytest.mark.parametrize(
    ("text", "detections", "left_over"),
    [
        (f"{CAT_TEXT} cat", [cat()], ""),
        (f"{CAT_TEXT} cat ; {CAT_TEXT} red dog", [cat(), cat("red dog")], ""),
        (f"{CAT_TEXT} cat;{CAT_TEXT}dog;", [cat(), cat("dog")], ""),
        (f"{CAT_TEXT}{CODES_TEXT} cat", [cat(codes=CODES)], ""),
        (f"{CAT_TEXT}{CODES_TEXT}", [cat("", codes=CODES)], ""),
        (f"{CAT_TEXT}{CAT_TEXT} cat", [cat(""), cat()], ""),
        (f"I see {CAT_TEXT} cat", [cat()], "I see"),
        ("a cat ; a dog", [], "a cat ; a dog"),
        ("", [], ""),
    ],
)
def test_objects_are_found_in_order(text, detections, left_over):
    parsed = parse_answer(text)
    assert (list(parsed.detections), parsed.text, parsed.problems) == (detections, left_over, ())


@pytest.mark.parametrize(
    ("text", "span", "reason"),
    [
        ("<loc0010><loc0020><loc0500> cat", "<loc0010><loc0020><loc0500>", "3 location tokens"),
        (f"{CODES_TEXT} cat", CODES_TEXT, "0 location tokens"),
        ("<loc0010><loc0020><loc0500><loc1024> cat", "<loc0010><loc0020><loc0500><loc1024>", "1024 is above"),
        ("<loc0500><loc0020><loc0010><loc0600> cat", "<loc0500><loc0020><loc0010><loc0600>", "no area"),
    ],
)
def test_a_malformed_object_is_reported_and_left_out(text, span, reason):
    parsed = parse_answer(f"{CAT_TEXT} cat ; {text}")
    assert parsed.detections == (cat(),)
    (problem,) = parsed.problems
    assert f"{CAT_TEXT} cat ; {text}"[problem.start : problem.end] == span
    assert reason in problem.reason


@pytest.mark.parametrize(
    "codes", ["<seg001>", CODES_TEXT.replace("<seg000>", "<seg128>"), CODES_TEXT + "<seg001>"]
)
def test_a_box_stays_where_its_mask_tokens_are_malformed(codes):
    parsed = parse_answer(f"{CAT_TEXT}{codes} cat")
    assert parsed.detections == (cat(),)
    assert "mask tokens" in parsed.problems[0].reason


def test_the_demo_divisor_can_be_asked_for():
    assert parse_answer(f"{CAT_TEXT} cat", divisor=1024).detections == (cat(divisor=1024),)


@settings(deadline=None)
@given(st.text() | st.lists(FRAGMENTS).map("".join))
def test_no_text_makes_it_fail_and_problems_are_spans_of_it(text):
    parsed = parse_answer(text)
    for problem in parsed.problems:
        assert 0 <= problem.start < problem.end <= len(text)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 1023)] * 4)))
def test_what_we_write_is_read_back(corners):
    boxes = [indices_to_box((y, x, y + 1, x + 1)) for y, x, _, _ in corners if y < 1023 and x < 1023]
    text = " ; ".join(f"{box_to_text(box)} cat" for box in boxes)
    assert [found.box for found in parse_answer(text).detections] == boxes


@pytest.mark.parametrize(
    "unit", ["<loc0001>", "<seg001>", "<loc", "<", ";", f"{CAT_TEXT} a ; ", f"{CAT_TEXT} "]
)
def test_time_grows_no_faster_than_the_text(unit):
    def seconds(length):
        text = unit * (length // len(unit))
        start = time.process_time()
        parse_answer(text)
        return time.process_time() - start

    # 10 times the text: about 10 times as long, a quadratic scanner 100 times; the best of three.
    assert min(seconds(400_000) for _ in range(3)) < 40 * max(min(seconds(40_000) for _ in range(3)), 0.005)
