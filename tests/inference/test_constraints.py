from functools import cache
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.assets import PICTURES_FOLDER, TINY_FOLDER
from paligemma2.errors import InputError
from paligemma2.inference.constraints import (
    Constraint,
    Progress,
    answer_list,
    detect_grammar,
    segment_grammar,
)
from paligemma2.inference.loading import load
from paligemma2.model.config import preset
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.processor import Processor
from paligemma2.processing.tiny_tokenizer import build_tiny_tokenizer, tiny_vocabulary
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.types import Decoding
from tests.conftest import shared_folder
from tests.inference.small_decoding import Script, answers, token_ids
from tests.small_model import WORDS, small_config

GRAMMARS = {"detect": detect_grammar, "segment": segment_grammar}
TOKENIZERS = ["tiny", pytest.param("gemma", marks=pytest.mark.golden)]
LABELS = ("cat", "dog", "cat dog", "person's hat", "no-entry (left)", "a  b", "é🦩", "cats", "C++ <b>")
EOS = 1


@cache
def processor(name: str) -> Processor:
    if name == "tiny":
        config = small_config()
        return Processor(Tokenizer.from_json(build_tiny_tokenizer(WORDS), config), config)
    folder = shared_folder() / "tokenizer"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    config = preset("paligemma2-3b-pt-224")
    return Processor(Tokenizer.from_folder(folder, config), config)


def allowed_tokens(
    grammar: Constraint, state: tuple[int, ...], remaining: int, vocab: int = 260000
) -> list[int]:
    return torch.arange(vocab)[grammar.allowed(state, remaining)].tolist()


def accepts(grammar: Constraint, tokens: list[int], limit: int) -> bool:
    """Whether an automaton with `limit` tokens to make lets these pass to the end token."""
    state = grammar.start
    for made, token in enumerate(tokens):
        if made == limit or token not in allowed_tokens(grammar, state, limit - made):
            return False
        if token == EOS:
            return made == len(tokens) - 1
        state = grammar.advance(state, token)
    return False


def wander(grammar: Constraint, limit: int, rng: Random) -> list[int]:
    """An answer of tokens drawn at random among the allowed ones."""
    tokens: list[int] = []
    state = grammar.start
    while True:
        offered = allowed_tokens(grammar, state, limit - len(tokens))
        # The few tokens that are no location get a fair chance, or an answer would hardly ever be empty.
        tokens.append(rng.choice(offered if rng.random() < 0.7 else sorted(offered)[:3]))
        if tokens[-1] == EOS:
            return tokens
        state = grammar.advance(state, tokens[-1])


@st.composite
def suffixes(draw: st.DrawFn, kind: str) -> tuple[tuple[str, ...], int, str]:
    """Labels of a prompt, the number of objects, and an answer to train on."""
    labels = tuple(draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=4, unique=True)))
    objects = []
    for _ in range(draw(st.integers(0, 4))):
        low = [draw(st.integers(0, 1022)) for _ in range(2)]
        corners = low + [draw(st.integers(value + 1, 1023)) for value in low]
        codes = draw(st.lists(st.integers(0, 127), min_size=16, max_size=16)) if kind == "segment" else []
        numbers = [f"<loc{each:04d}>" for each in corners] + [f"<seg{each:03d}>" for each in codes]
        objects.append("".join(numbers) + " " + draw(st.sampled_from(labels)))
    return labels, len(objects), " ; ".join(objects)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("kind", GRAMMARS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_answer_to_train_on_passes_if_it_is_short_enough(name, kind, data):
    labels, num_objects, suffix = data.draw(suffixes(kind))
    tokens = processor(name).suffix_ids(suffix)
    grammar = GRAMMARS[kind](processor(name).tokenizer, labels)
    assert accepts(grammar, tokens, limit=len(tokens))
    assert accepts(grammar, tokens, limit=len(tokens) + 100)
    assert not accepts(grammar, tokens, limit=len(tokens) - 1)
    exact = GRAMMARS[kind](processor(name).tokenizer, labels, max_objects=max(num_objects, 1))
    assert accepts(exact, tokens, limit=500)
    if num_objects > 1:
        fewer = GRAMMARS[kind](processor(name).tokenizer, labels, max_objects=num_objects - 1)
        assert not accepts(fewer, tokens, limit=500)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("kind", GRAMMARS)
@settings(max_examples=15, deadline=None)
@given(
    labels=st.lists(st.sampled_from(LABELS), min_size=1, max_size=4),
    max_objects=st.none() | st.integers(1, 3),
    limit=st.integers(1, 120),
    rng=st.randoms(use_true_random=False),
)
def test_every_answer_that_passes_is_one_to_train_on(name, kind, labels, max_objects, limit, rng):
    grammar = GRAMMARS[kind](processor(name).tokenizer, labels, max_objects=max_objects)
    tokens = wander(grammar, limit, rng)
    assert len(tokens) <= limit
    text = processor(name).tokenizer.decode(tokens)
    parsed = parse_answer(text)
    assert (parsed.problems, parsed.text) == ((), "")
    assert processor(name).suffix_ids(text) == tokens
    assert {detection.label for detection in parsed.detections} <= set(labels)
    assert {len(detection.codes) for detection in parsed.detections} <= {16 if kind == "segment" else 0}
    assert max_objects is None or len(parsed.detections) <= max_objects
    for detection in parsed.detections:
        assert detection.box.y_min < detection.box.y_max
        assert detection.box.x_min < detection.box.x_max


def test_wandering_reaches_empty_answers_and_many_objects():
    grammar = detect_grammar(processor("tiny").tokenizer, ["cat", "dog"])
    walks = [wander(grammar, 60, Random(seed)) for seed in range(60)]
    counts = {len(parse_answer(processor("tiny").tokenizer.decode(walk)).detections) for walk in walks}
    assert counts >= {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    "broken",
    [
        "<loc0500><loc0100><loc0400><loc0200> cat",
        "<loc0100><loc0200><loc0400><loc0200> cat",
        "<loc0100><loc0100><loc0400> cat",
        "<loc0100><loc0100><loc0400><loc0200> cow",
        "<loc0100><loc0100><loc0400><loc0200>cat",
        "<loc0100><loc0100><loc0400><loc0200> cat ;",
        "<loc0100><loc0100><loc0400><loc0200> cat;",
        "<loc0100><loc0100><loc0400><loc0200>",
        "<loc0100><loc0100><loc0400><loc0200>" + "<seg001>" * 16 + " cat",
        "a <loc0100><loc0100><loc0400><loc0200> cat",
        "cat",
    ],
)
def test_what_is_malformed_does_not_pass(broken):
    grammar = detect_grammar(processor("tiny").tokenizer, ["cat", "dog"])
    assert not accepts(grammar, processor("tiny").suffix_ids(broken), limit=100)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=6))
def test_a_closed_list_passes_exactly_its_answers(name, texts):
    grammar = answer_list(processor(name).tokenizer, texts)
    expected = {tuple(processor(name).suffix_ids(text)) for text in texts}
    found = set()
    open_ends = [((), grammar.start)]
    while open_ends:
        tokens, state = open_ends.pop()
        for token in allowed_tokens(grammar, state, 1000):
            if token == EOS:
                found.add((*tokens, token))
            else:
                open_ends.append(((*tokens, token), grammar.advance(state, token)))
    assert found == expected
    assert grammar.shortest == min(map(len, expected))
    for tokens in expected:
        assert accepts(grammar, list(tokens), limit=len(tokens))
        assert not accepts(grammar, list(tokens), limit=len(tokens) - 1)


@pytest.mark.parametrize(
    "labels", [["cat ; dog"], ["cat", " "], [""], ["<loc0001>"], ["a <seg001>"], ["<loc12>"], []]
)
@pytest.mark.parametrize("kind", GRAMMARS)
def test_what_could_not_be_read_back_is_no_label(kind, labels):
    with pytest.raises(InputError, match="label") as raised:
        GRAMMARS[kind](processor("tiny").tokenizer, labels)
    assert raised.value.hint


def test_bad_limits_and_empty_lists_are_refused():
    with pytest.raises(InputError, match="max_objects is 0"):
        detect_grammar(processor("tiny").tokenizer, ["cat"], max_objects=0)
    with pytest.raises(InputError, match="empty"):
        answer_list(processor("tiny").tokenizer, [])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_distribution_is_the_models_own_renormalised(seed):
    grammar = detect_grammar(processor("tiny").tokenizer, ["cat", "dog"])
    vocab = len(tiny_vocabulary(WORDS))
    logits = torch.randn(2, vocab, generator=torch.Generator().manual_seed(seed))
    progress = Progress([grammar, None], 30, EOS)
    rng = Random(seed)
    state, remaining = grammar.start, 30
    while True:
        allowed = allowed_tokens(grammar, state, remaining, vocab)
        probabilities = logits[0].softmax(-1)
        expected = torch.zeros(vocab)
        expected[allowed] = probabilities[allowed] / probabilities[allowed].sum()
        restricted = progress.restrict(logits)
        torch.testing.assert_close(restricted[0].softmax(-1), expected)
        assert torch.equal(restricted[1], logits[1])
        token = rng.choice(allowed)
        progress.advance([token, rng.randrange(vocab)])
        if token == EOS:
            assert progress.restrict(logits) is logits
            return
        state, remaining = grammar.advance(state, token), remaining - 1


def test_rows_that_change_places_take_their_state_along():
    progress = Progress([Script((5, 6, EOS)), Script((7, 8, EOS))], 3, EOS)
    logits = torch.zeros(2, 10)
    assert progress.restrict(logits).argmax(-1).tolist() == [5, 7]
    progress.advance([7, 5], sources=[1, 0])
    assert progress.restrict(logits).argmax(-1).tolist() == [8, 6]
    progress.advance([8, 8], sources=[0, 0])
    assert progress.restrict(logits).isfinite().nonzero().tolist() == [[0, EOS], [1, EOS]]


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(max_new_tokens=70),
        Decoding(max_new_tokens=70, method="sample", temperature=2.0, seed=5),
        Decoding(max_new_tokens=45, method="beam", beams=3),
    ],
    ids=["greedy", "sample", "beam"],
)
@pytest.mark.parametrize("seed", range(4))
def test_a_random_model_always_writes_what_can_be_read(model, pictures, decoding, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.model.parameters():
        parameter.data.normal_(0.0, 0.2, generator=generator)
    tokenizer = model.processor.tokenizer
    labels = [("cat",), ("dog", "a  cat"), ("person's hat", "cat", "cat dog"), ("dog",)]
    kinds = ["detect", "segment", "detect", "segment"]
    grammars = [GRAMMARS[kind](tokenizer, names) for kind, names in zip(kinds, labels, strict=True)]
    inputs = model.encode(list(pictures), ["detect cat"] * 4)
    rows = answers(model.model, inputs, decoding, grammars)
    for row, names, kind in zip(token_ids(rows), labels, kinds, strict=True):
        assert row[-1] == EOS
        parsed = parse_answer(tokenizer.decode(row))
        assert (parsed.problems, parsed.text) == ((), "")
        assert {detection.label for detection in parsed.detections} <= set(names)
        assert all(len(each.codes) == (16 if kind == "segment" else 0) for each in parsed.detections)


@pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the small model is not in this checkout")
def test_an_answer_that_is_well_formed_by_itself_is_left_as_it_is():
    model = load("tiny", device="cpu")
    tokenizer, decoding = model.processor.tokenizer, Decoding(max_new_tokens=64)
    pictures: list[Path] = sorted(PICTURES_FOLDER.glob("*.png"))
    labels = ["circle", "square"]
    inputs = model.encode(pictures, [f"detect {' ; '.join(labels)}"] * len(pictures))
    grammar = detect_grammar(tokenizer, labels)
    free = answers(model.model, inputs, decoding)
    bound = answers(model.model, inputs, decoding, [grammar] * len(pictures))
    good = [accepts(grammar, list(ids), 64) for ids in token_ids(free)]
    assert any(good)
    assert [row for row, is_good in zip(bound, good, strict=True) if is_good] == [
        row for row, is_good in zip(free, good, strict=True) if is_good
    ]
