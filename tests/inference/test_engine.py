import copy
from dataclasses import replace
from itertools import chain, repeat

import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference.constraints import answer_list, detect_grammar
from paligemma2.inference.decoding import decode
from paligemma2.inference.engine import Engine
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.reading import select_rows
from paligemma2.model.lora import attach
from paligemma2.types import Decoding
from tests.inference.small_decoding import answers, model_of, prompts_of, record_calls, token_ids
from tests.small_adapter import DECODER, EVERYTHING, merged, random_adapter

TEXTS = [[3, 4], [5], [6, 7, 3, 4, 5], [4, 4, 4], [7]]
DECODINGS = [
    Decoding(max_new_tokens=9),
    Decoding(max_new_tokens=4, method="sample", seed=1),
    Decoding(max_new_tokens=7, method="sample", seed=2, temperature=0.7, top_k=4),
    Decoding(max_new_tokens=1),
    Decoding(max_new_tokens=6, method="sample", seed=3, top_p=0.8),
]


@pytest.fixture
def small():
    return model_of(12, seed=3)


@pytest.fixture
def calls(small, monkeypatch):
    return record_calls(small, monkeypatch)


def one(model, row, texts=TEXTS):
    """The prompt of one row, asked about its own picture."""
    whole = prompts_of(model, texts)
    valid = whole.layout.is_valid[row]
    alone = prompts_of(model, [texts[row]])
    assert torch.equal(whole.token_ids[row][valid], alone.token_ids[0])
    return replace(alone, pixel_values=whole.pixel_values[row : row + 1])


def expected_ids(model):
    return [token_ids(answers(model, one(model, row), decoding))[0] for row, decoding in enumerate(DECODINGS)]


def run(engine, joins):
    """Tokens by ticket; `joins[k]` are called before step k."""
    written = {}
    step = 0
    while step <= max(joins, default=0) or not engine.is_idle:
        if step in joins:
            joins[step]()
        for each in engine.step():
            assert each.ticket not in written or not written[each.ticket][-1].is_last
            written.setdefault(each.ticket, []).append(each)
        step += 1
    assert all(row[-1].is_last for row in written.values())
    return {ticket: tuple(each.token.id for each in row) for ticket, row in written.items()}


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("layers_per_step", [1, 100])
def test_rows_that_join_at_any_time_write_what_they_write_alone(small, rows, layers_per_step):
    engine = Engine(small, rows=rows, capacity=40, layers_per_step=layers_per_step)
    tickets = {}

    def join(row):
        return lambda: tickets.update({engine.add(one(small, row), [DECODINGS[row]])[0]: row})

    written = run(engine, {0: join(0), 1: join(1), 2: join(2), 5: join(3), 6: join(4)})
    by_row = {tickets[ticket]: ids for ticket, ids in written.items()}
    assert [by_row[row] for row in range(5)] == expected_ids(small)


def test_a_batch_in_one_go_writes_what_its_rows_write_alone(small):
    engine = Engine(small, rows=5, capacity=40)
    tickets = engine.add(prompts_of(small, TEXTS), DECODINGS)
    written = run(engine, {})
    assert [written[ticket] for ticket in tickets] == expected_ids(small)


def test_a_row_that_joins_adds_one_reading_and_nothing_is_computed_again(small, calls):
    engine = Engine(small, rows=3, capacity=40, layers_per_step=100)
    engine.add(one(small, 0), [Decoding(max_new_tokens=5)])
    engine.step()
    engine.step()
    assert calls == [("images", 1), ("read", 1), ("step", 1)]
    calls.clear()
    engine.add(one(small, 1), [Decoding(max_new_tokens=2)])
    for _ in range(3):
        engine.step()
    assert calls == [("images", 1), ("read", 1), ("step", 1), ("step", 2), ("step", 1)]
    assert engine.is_idle
    assert engine.step() == []


def test_others_write_between_the_layers_of_a_long_prompt(small, calls):
    engine = Engine(small, rows=2, capacity=60, layers_per_step=1)
    (first,) = engine.add(one(small, 0), [Decoding(max_new_tokens=20)])
    engine.step()
    (second,) = engine.add(one(small, 2), [Decoding(max_new_tokens=1)])
    layers = small.config.vision.num_layers + small.config.text.num_layers
    for _ in range(layers):
        assert [each.ticket for each in engine.step()] == [first]
    assert [each.ticket for each in engine.step()] == [first, second]


def test_many_questions_about_one_picture_encode_it_once(small, calls):
    images = ImageTokens(small)
    pixels = prompts_of(small, [[3]], seed=5).pixel_values
    engine = Engine(small, images, rows=2, capacity=40)
    for text in ([3], [4, 5], [6]):
        asked = replace(prompts_of(small, [text]), pixel_values=pixels)
        engine.add(asked, [Decoding(max_new_tokens=3)])
    run(engine, {})
    assert [call for call in calls if call[0] == "images"] == [("images", 1)]
    assert [call for call in calls if call[0] == "read"] == [("read", 1)] * 3


def test_a_row_is_cancelled_within_a_step_wherever_it_is(small, calls):
    engine = Engine(small, rows=1, capacity=40, layers_per_step=1)
    (writing,) = engine.add(one(small, 0), [Decoding(max_new_tokens=9)])
    engine.step()
    (waiting,) = engine.add(one(small, 1), [Decoding(max_new_tokens=9)])
    (kept,) = engine.add(one(small, 3), [Decoding(max_new_tokens=1)])
    engine.cancel(waiting)
    engine.cancel(writing)
    assert [each.ticket for each in engine.step()] == [kept]
    assert engine.is_idle
    engine.cancel(kept)
    engine.cancel(999)

    wide = Engine(small, rows=2, capacity=40, layers_per_step=1)
    (first,) = wide.add(one(small, 0), [Decoding(max_new_tokens=9)])
    wide.step()
    (read,) = wide.add(one(small, 1), [Decoding(max_new_tokens=9)])
    wide.step()
    wide.cancel(read)
    wide.cancel(first)
    assert wide.is_idle


def test_a_cancelled_row_of_a_group_leaves_the_others(small):
    engine = Engine(small, rows=5, capacity=40)
    tickets = engine.add(prompts_of(small, TEXTS), DECODINGS)
    engine.cancel(tickets[0])
    written = run(engine, {})
    assert [written.get(ticket) for ticket in tickets] == [None, *expected_ids(small)[1:]]


def test_a_prompt_that_cannot_be_read_leaves_the_others(small, monkeypatch):
    engine = Engine(small, rows=3, capacity=40)
    (first,) = engine.add(one(small, 0), [DECODINGS[0]])
    ids = [engine.step()[0].token.id]
    prefill, fails = small.prefill_in_pieces, chain([True], repeat(False))

    def fail_once(*given):
        if next(fails):
            raise torch.OutOfMemoryError("full")
        return prefill(*given)

    monkeypatch.setattr(small, "prefill_in_pieces", fail_once)
    (lost,) = engine.add(one(small, 1), [DECODINGS[1]])
    (kept,) = engine.add(one(small, 3), [DECODINGS[3]])
    written, num_failed = {first: ids, kept: []}, 0
    while not engine.is_idle:
        try:
            for each in engine.step():
                written[each.ticket].append(each.token.id)
        except torch.OutOfMemoryError:
            num_failed += 1
    assert num_failed == 1
    assert lost not in written
    assert [tuple(written[first]), tuple(written[kept])] == [expected_ids(small)[row] for row in (0, 3)]


def test_rows_with_and_without_a_grammar_go_together(model, pictures):
    tokenizer = model.processor.tokenizer
    asks = [
        ("caption en", None),
        ("detect cat", detect_grammar(tokenizer, ["cat"])),
        ("answer en is it?", answer_list(tokenizer, ["yes", "no"])),
    ]
    decoding = Decoding(max_new_tokens=9)
    engine, tickets = model.engine(rows=3), []
    for picture, (prompt, grammar) in zip(pictures, asks, strict=False):
        tickets += engine.add(model.encode(picture, prompt), [decoding], [grammar])
    written = run(engine, {})
    for picture, (prompt, grammar), ticket in zip(pictures, asks, tickets, strict=False):
        steps = decode(model.model, model.encode(picture, prompt), decoding, constraints=[grammar])
        assert written[ticket] == tuple(token.id for (token,) in steps)


def test_the_most_likely_tokens_are_told_to_those_who_ask(small):
    engine = Engine(small, rows=2, capacity=40)
    asked, not_asked = Decoding(max_new_tokens=3, top_log_probs=4), Decoding(max_new_tokens=3)
    engine.add(prompts_of(small, TEXTS[:2]), [asked, not_asked])
    for _ in range(3):
        first, second = (each.token for each in engine.step())
        assert second.top == ()
        assert len(first.top) == 4
        assert first.top[0] == (first.id, pytest.approx(first.log_prob, abs=1e-6))
        values = [value for _, value in first.top]
        assert values == sorted(values, reverse=True)
    everything = Decoding(max_new_tokens=1, top_log_probs=1000)
    (((token,),),) = [list(decode(small, one(small, 0), everything))]
    assert len(token.top) == small.config.num_text_rows
    assert sum(torch.tensor([value for _, value in token.top]).exp()).item() == pytest.approx(1.0, abs=1e-5)


def test_what_does_not_fit_is_refused(small):
    engine = Engine(small, rows=2, capacity=20)
    with pytest.raises(InputError, match="3 prompts of up to 13 tokens do not fit into 2 rows of 20"):
        engine.add(prompts_of(small, TEXTS[:3]), [Decoding(max_new_tokens=3)] * 3)
    with pytest.raises(InputError, match="1 prompts of up to 47 tokens do not fit"):
        engine.add(prompts_of(small, TEXTS[:1]), [Decoding(max_new_tokens=40)])
    for setting in ({"method": "beam"}, {"method": "sample", "best_of": 2}, {"stop": ("a",)}):
        with pytest.raises(InputError, match="no beams, no best_of and no stop texts"):
            engine.add(prompts_of(small, TEXTS[:1]), [Decoding(max_new_tokens=3, **setting)])
    with pytest.raises(InputError, match=r"temperature is 0\.0"):
        engine.add(prompts_of(small, TEXTS[:1]), [Decoding(method="sample", temperature=0.0)])
    with pytest.raises(InputError, match="1 decodings for 2 prompts"):
        engine.add(prompts_of(small, TEXTS[:2]), [Decoding(max_new_tokens=1)])
    with pytest.raises(InputError, match="2 constraints for 1 prompts"):
        engine.add(prompts_of(small, TEXTS[:1]), [Decoding(max_new_tokens=1)], [None, None])
    with pytest.raises(InputError, match="the model has no adapter 'it'"):
        engine.add(prompts_of(small, TEXTS[:1]), [Decoding(max_new_tokens=1)], adapters=["it"])
    with pytest.raises(InputError, match="0 adapters for 1 prompts"):
        engine.add(prompts_of(small, TEXTS[:1]), [Decoding(max_new_tokens=1)], adapters=[])
    with pytest.raises(InputError, match="rows is 0"):
        Engine(small, rows=0, capacity=20)
    assert engine.is_idle


def test_rows_with_different_adapters_join_at_any_time_and_write_what_they_write_alone(small):
    adapters = {
        "words": random_adapter(small.config, DECODER, seed=1, scale=0.5),
        "both": random_adapter(small.config, EVERYTHING, seed=2, scale=0.5),
    }
    models = {None: small} | {name: merged(small, adapter) for name, adapter in adapters.items()}
    names = ["words", None, "both", "words", "both"]
    alone = [expected_ids(models[name])[row] for row, name in enumerate(names)]
    plain = expected_ids(small)
    attach(small, adapters)
    engine = Engine(small, rows=3, capacity=40, layers_per_step=1)
    tickets = {}

    def join(row):
        def add():
            (ticket,) = engine.add(one(small, row), [DECODINGS[row]], adapters=[names[row]])
            tickets[ticket] = row

        return add

    written = run(engine, {0: join(0), 1: join(1), 2: join(2), 5: join(3), 6: join(4)})
    assert {tickets[ticket]: ids for ticket, ids in written.items()} == dict(enumerate(alone))
    assert (alone[0], alone[2]) != (plain[0], plain[2])


def test_rows_of_one_group_may_have_different_adapters(small, monkeypatch):
    adapters = {name: random_adapter(small.config, seed=seed) for seed, name in enumerate(("a", "b"))}
    models = {None: copy.deepcopy(small)} | {name: merged(small, each) for name, each in adapters.items()}
    attach(small, adapters)
    calls = record_calls(small, monkeypatch)
    inputs = select_rows(small, prompts_of(small, TEXTS[:1]), [0] * 5)
    engine = Engine(small, rows=5, capacity=40)
    names = ["a", None, "b", "a", None]
    tickets = engine.add(inputs, [Decoding(max_new_tokens=5)] * 5, adapters=names)
    written = run(engine, {})
    assert calls[:2] == [("images", 1), ("read", 3)]
    for name, ticket in zip(names, tickets, strict=True):
        model = models[name]
        (expected,) = token_ids(answers(model, one(model, 0), Decoding(max_new_tokens=5)))
        assert written[ticket] == expected
