import math
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.inference.detection import Selection, label_groups, read_objects, select, token_spans
from paligemma2.metrics.detection import box_iou
from paligemma2.model.config import preset
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.types import Box, Decoding, Detection, Generation

LOCATIONS = "<loc0100><loc0200><loc0300><loc0400>"
CODES = "".join(f"<seg{i:03d}>" for i in range(16))
label_text = st.text(st.characters(blacklist_characters=";<", blacklist_categories=["Cs"]), max_size=12)
fixture_is_shared = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def tokenizer(model) -> Tokenizer:
    return model.processor.tokenizer


def written(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, allow_locations=True))


def generation(tokenizer, token_ids, log_probs=None, location_log_probs=None) -> Generation:
    """An answer whose tokens have the probability 1 unless said otherwise."""
    certain = (0.0,) * len(token_ids)
    return Generation(
        text=tokenizer.decode(token_ids),
        token_ids=tuple(token_ids),
        finish_reason="stop",
        num_prompt_tokens=9,
        log_probs=certain if log_probs is None else tuple(log_probs),
        location_log_probs=certain if location_log_probs is None else tuple(location_log_probs),
    )


def token_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    value = tokenizer.byte_value(token_id)
    return tokenizer.piece_text(token_id).encode() if value is None else bytes((value,))


# --- tokens and the text they stand for -------------------------------------------------------------------


@fixture_is_shared
@given(text=st.text(st.characters(blacklist_categories=["Cs"]), max_size=20))
def test_a_token_stands_where_its_bytes_are(tokenizer, text) -> None:
    ids = written(tokenizer, f"{LOCATIONS} {text} ; {LOCATIONS}{CODES}{text}")
    whole = tokenizer.decode(ids)
    edges = [0, *accumulate(len(token_bytes(tokenizer, each)) for each in ids)]
    starts = [0, *accumulate(len(character.encode()) for character in whole)]
    assert edges[-1] == starts[-1]
    for (start, end), (first, last) in zip(token_spans(tokenizer, ids), pairwise(edges), strict=True):
        shared = [i for i, (a, b) in enumerate(pairwise(starts)) if a < last and b > first]
        assert list(range(start, end)) == shared


@pytest.mark.parametrize(
    "label", ["cat", "person's hat", "no-entry (left)", "日本語 🦩\U000130c0", "ﬁ  e\u0301"]
)
def test_objects_of_the_gemma_vocabulary_have_their_own_tokens(shared, label) -> None:
    gemma = Tokenizer.from_folder(shared / "tokenizer", preset("paligemma2-3b-pt-224"))
    ids = written(gemma, f"{LOCATIONS} {label} ; {LOCATIONS}{CODES} {label}")
    read = read_objects(generation(gemma, ids), gemma)
    assert [found.label for found in read.detections] == [label, label]
    spans, text = token_spans(gemma, ids), gemma.decode(ids)
    for start, end in read.spans:
        own = [i for i, (first, last) in enumerate(spans) if first < end and last > start]
        assert gemma.decode([ids[i] for i in own]) == text[start:end]


@fixture_is_shared
@given(data=st.data())
def test_every_character_has_a_token_whatever_the_tokens(tokenizer, data) -> None:
    some = [*range(tokenizer.image_id + 1), *written(tokenizer, "é🦩\U000130c0ß") * 40]
    ids = data.draw(st.lists(st.sampled_from(some), max_size=12))
    text, spans = tokenizer.decode(ids), token_spans(tokenizer, ids)
    assert {i for span in spans for i in range(*span)} == set(range(len(text)))
    assert spans == sorted(spans)
    assert all(start <= end for start, end in spans)
    for token_id, (start, end) in zip(ids, spans, strict=True):
        if tokenizer.byte_value(token_id) is None and tokenizer.is_text(token_id):
            assert text[start:end] == tokenizer.piece_text(token_id)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0xE2, 0x82, 0xAC], [(0, 1)] * 3),  # €
        ([0xE2, 0x82], [(0, 1)] * 2),  # cut short
        ([0xE2, 0x82, 0x41], [(0, 1), (0, 1), (1, 2)]),  # cut short by a letter
        ([0xE2, 0xE2, 0x82, 0xAC], [(0, 1), (1, 2), (1, 2), (1, 2)]),  # begun again
        ([0x80, 0x41], [(0, 1), (1, 2)]),
    ],
)
def test_bytes_that_are_no_character_are_told_from_their_neighbours(tokenizer, values, expected) -> None:
    by_value = {tokenizer.byte_value(each): each for each in range(tokenizer.image_id)}
    assert token_spans(tokenizer, [by_value[value] for value in values]) == expected


# --- scores -----------------------------------------------------------------------------------------------


def test_a_score_is_the_box_times_the_mean_of_the_label(tokenizer) -> None:
    ids = written(tokenizer, f"{LOCATIONS} cat dog")
    label = len(ids) - 4
    assert label > 1
    probabilities = [0.01] * 4 + [0.5] + [0.8] * (label - 1)
    boxes = [0.9, 0.8, 0.7, 0.6] + [0.1] * label
    answer = generation(tokenizer, ids, map(math.log, probabilities), map(math.log, boxes))
    (found,) = read_objects(answer, tokenizer).detections
    mean = (0.5 * 0.8 ** (label - 1)) ** (1 / label)
    assert found.score == pytest.approx(0.9 * 0.8 * 0.7 * 0.6 * mean)


@fixture_is_shared
@given(labels=st.lists(label_text, min_size=1, max_size=4), data=st.data(), has_codes=st.booleans())
def test_only_an_objects_own_tokens_count(tokenizer, labels, data, has_codes) -> None:
    """With the probability 0.5 at the tokens of one object, only that object's score changes."""
    pieces = [f"{LOCATIONS}{CODES if has_codes else ''} {label}" for label in labels]
    ids = written(tokenizer, " ; ".join(pieces))
    certain = read_objects(generation(tokenizer, ids), tokenizer)
    assert [found.score for found in certain.detections] == [1.0] * len(labels)
    chosen = data.draw(st.sampled_from(range(len(labels))))
    start, end = certain.spans[chosen]
    inside = [a < end and b > start for a, b in token_spans(tokenizer, ids)]
    halves = [math.log(0.5) if each else 0.0 for each in inside]
    changed = read_objects(generation(tokenizer, ids, halves, halves), tokenizer)
    expected = [1.0] * len(labels)
    expected[chosen] = 0.5**5 if certain.detections[chosen].label else 0.5**4
    assert [found.score for found in changed.detections] == pytest.approx(expected)


@fixture_is_shared
@given(label=label_text.filter(str.strip))
def test_a_label_spelled_in_bytes_is_scored_by_its_bytes(tokenizer, label) -> None:
    ids = written(tokenizer, f"{LOCATIONS} {label} ; {LOCATIONS} cat")
    (first, second) = read_objects(generation(tokenizer, ids), tokenizer).detections
    spans = token_spans(tokenizer, ids)
    at = tokenizer.decode(ids).index(first.label, len(LOCATIONS))
    is_label = [a < at + len(first.label) and b > at for a, b in spans]
    count = sum(is_label)
    logs = [-float(i) if each else -50.0 for i, each in enumerate(is_label)]
    logs = [0.0 if i >= is_label.index(True) + count + 1 else each for i, each in enumerate(logs)]
    scored = read_objects(generation(tokenizer, ids, logs), tokenizer).detections
    assert scored[0].score == pytest.approx(
        math.exp(sum(v for v, each in zip(logs, is_label, strict=True) if each) / count)
    )
    assert scored[1] == replace(second, score=scored[1].score)


def test_location_tokens_that_are_only_spelled_make_no_likely_box(tokenizer) -> None:
    ids = tokenizer.encode(f"{LOCATIONS} cat")  # no location token among them
    assert not set(ids) & set(tokenizer.location_ids)
    unlikely = [math.log(0.1)] * len(ids)
    (found,) = read_objects(generation(tokenizer, ids, None, unlikely), tokenizer).detections
    assert found.score is not None
    assert found.score <= 1e-4


def test_what_is_read_is_what_the_parser_reads(tokenizer) -> None:
    text = f"there is {LOCATIONS} cat ; <loc0001> broken ; {LOCATIONS}{CODES} dog ; {LOCATIONS}"
    ids = written(tokenizer, text)
    parsed, read = parse_answer(tokenizer.decode(ids)), read_objects(generation(tokenizer, ids), tokenizer)
    assert [replace(found, score=None) for found in read.detections] == list(parsed.detections)
    assert (read.text, read.problems, read.spans) == (parsed.text, parsed.problems, parsed.spans)
    assert len(read.detections) == 3


def test_an_answer_without_probabilities_is_refused(tokenizer) -> None:
    ids = written(tokenizer, f"{LOCATIONS} cat")
    with pytest.raises(InputError, match=f"{len(ids)} tokens with 0 probabilities"):
        read_objects(generation(tokenizer, ids, log_probs=()), tokenizer)


def test_the_probability_of_a_location_is_the_sum_over_all_location_tokens(model, array) -> None:
    (answer,) = model.generate(array, "detect cat", 6)
    prompt = model.encode(array, "detect cat")
    expected = []
    with torch.inference_mode():
        image_tokens = model.model.encode_images(prompt.pixel_values)[prompt.image_index]
        logits, cache = model.model.prefill(prompt.token_ids, image_tokens, prompt.layout, 6)
        for token in answer.token_ids:
            shares = logits[0, : model.config.num_text_rows].softmax(dim=-1)
            expected.append(shares[list(model.processor.tokenizer.location_ids)].sum().item())
            logits = model.model.step(torch.tensor([token]), cache)
    assert [math.exp(each) for each in answer.location_log_probs] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "decoding", [Decoding(max_new_tokens=6, method="beam", beams=1), Decoding(max_new_tokens=6)]
)
def test_every_way_of_decoding_gives_the_same_probability_of_locations(model, array, decoding) -> None:
    (answer,) = model.generate(array, "detect cat", decoding=decoding)
    (greedy,) = model.generate(array, "detect cat", 6)
    assert answer.token_ids == greedy.token_ids
    assert answer.location_log_probs == pytest.approx(greedy.location_log_probs, abs=1e-4)


# --- selection --------------------------------------------------------------------------------------------

boxes = st.tuples(*[st.integers(0, 6), st.integers(1, 6)] * 2).map(
    lambda t: Box(y_min=t[0] / 12, x_min=t[2] / 12, y_max=(t[0] + t[1]) / 12, x_max=(t[2] + t[3]) / 12)
)
scores = st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0])
objects = st.lists(st.builds(Detection, label=st.sampled_from("ab"), box=boxes, score=scores), max_size=8)
selections = st.builds(
    Selection,
    min_score=st.sampled_from([0.0, 0.3]),
    iou_threshold=st.sampled_from([0.2, 0.5, 1.0]),
    across_labels=st.booleans(),
    max_objects=st.none() | st.integers(1, 4),
)


def rivals(a: Detection, b: Detection, selection: Selection) -> bool:
    may = selection.across_labels or a.label == b.label
    return may and box_iou(a.box, b.box) >= selection.iou_threshold


@settings(max_examples=60, deadline=None)
@given(objects, selections)
def test_the_best_are_kept_and_each_other_has_a_better_rival(found, selection) -> None:
    kept = select(found, selection)
    enough = [each for each in found if (each.score or 0) >= selection.min_score]
    assert [each.score or 0 for each in kept] == sorted((each.score or 0 for each in kept), reverse=True)
    assert all(each in enough for each in kept)
    assert not any(rivals(a, b, selection) for i, a in enumerate(kept) for b in kept[:i])
    if selection.max_objects is None:
        for each in enough:
            assert any(rivals(k, each, selection) and (k.score or 0) >= (each.score or 0) for k in kept)
    else:
        assert kept == select(found, replace(selection, max_objects=None))[: selection.max_objects]


@settings(max_examples=60, deadline=None)
@given(objects, selections)
def test_selecting_twice_changes_nothing(found, selection) -> None:
    kept = select(found, selection)
    assert select(kept, selection) == kept


def test_an_answer_that_repeats_itself_gives_its_object_once() -> None:
    cat = Detection(label="cat", box=Box(y_min=0.1, x_min=0.1, y_max=0.7, x_max=0.3), score=0.5)
    repeated = [replace(cat, score=0.5 - i / 1000) for i in range(400)]
    assert select(repeated, Selection(iou_threshold=1.0)) == (cat,)


def test_ten_thousand_boxes_are_selected_in_seconds() -> None:
    many = [
        Detection(
            label="a", box=Box(y_min=y / 100, x_min=x / 100, y_max=y / 100 + 0.009, x_max=x / 100 + 0.009)
        )
        for y in range(100)
        for x in range(100)
    ]
    assert select(many, Selection(max_objects=500)) == tuple(many[:500])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"min_score": 1.5}, "min_score is 1.5"),
        ({"iou_threshold": 0.0}, "iou_threshold is 0.0"),
        ({"max_objects": 0}, "max_objects is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, match) -> None:
    with pytest.raises(InputError, match=match):
        Selection(**settings)


# --- labels -----------------------------------------------------------------------------------------------


@given(st.integers(1, 90), st.integers(1, 90))
def test_groups_are_even_and_few_and_keep_the_order(count, labels_per_prompt) -> None:
    labels = [f"thing {i}" for i in range(count)]
    groups = label_groups(labels, labels_per_prompt)
    assert [label for group in groups for label in group] == labels
    sizes = {len(group) for group in groups}
    assert max(sizes) <= labels_per_prompt
    assert max(sizes) - min(sizes) <= 1
    assert len(groups) == math.ceil(count / labels_per_prompt)


@pytest.mark.parametrize(
    ("labels", "labels_per_prompt", "match"),
    [
        ([], 1, "no label"),
        (["cat", " cat "], 1, "'cat' is given twice"),
        (["cat"], 0, "labels_per_prompt is 0"),
    ],
)
def test_labels_that_cannot_be_asked_for_are_refused(labels, labels_per_prompt, match) -> None:
    with pytest.raises(InputError, match=match):
        label_groups(labels, labels_per_prompt)
