import dataclasses

import pytest

from paligemma2.errors import InputError
from paligemma2.types import Decoding, Generation
from tests.inference.small_decoding import Script

LONG = Decoding(max_new_tokens=40)


def scripted(model, text, ends=True):
    ids = model.processor.suffix_ids(text)
    return Script(tuple(ids if ends else ids[:-1]))


def streamed(model, *arguments, **settings):
    pieces, stream = [], model.stream(*arguments, **settings)
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def stopping_at(*texts):
    return dataclasses.replace(LONG, stop=texts)


def test_rows_of_a_batch_stop_each_at_its_own_text(model, array, monkeypatch):
    steps = []
    step = model.model.step
    monkeypatch.setattr(model.model, "step", lambda *given: steps.append(1) or step(*given))
    constraints = [scripted(model, text) for text in ("yes; no and more", "cat no; dog", "cat")]
    answers = model.generate(
        [array] * 3, ["caption en"] * 3, decoding=stopping_at(";"), constraints=constraints
    )
    assert [answer.text for answer in answers] == ["yes", "cat no", "cat"]
    assert [answer.finish_reason for answer in answers] == ["stop"] * 3
    longest = max(len(answer.token_ids) for answer in answers)
    assert len(steps) == longest - 1, "nothing is decoded for rows that have stopped"
    assert all(len(answer.log_probs) == len(answer.token_ids) for answer in answers)


def test_the_first_of_several_stop_texts_counts(model, array):
    for stop in (("; no", ";"), ("no", ";", "yes;")):
        constraint = scripted(model, "cat yes; no")
        (answer,) = model.generate(array, decoding=stopping_at(*stop), constraints=[constraint])
        assert answer.text == {"; no": "cat yes", "no": "cat "}[stop[0]]


def test_a_stream_never_shows_a_part_of_a_stop_text(model, array):
    constraint = scripted(model, "cat dog cat no")
    pieces, answer = streamed(
        model, array, "caption en", decoding=stopping_at("cat no"), constraint=constraint
    )
    assert "".join(pieces) == answer.text == "cat dog "
    assert answer.finish_reason == "stop"


def test_a_stop_text_that_never_comes_changes_nothing(model, array):
    plain = model.generate(array, "caption en", decoding=LONG)
    assert model.generate(array, "caption en", decoding=stopping_at("\x00never")) == plain


@pytest.mark.parametrize("ends", [True, False])
def test_a_streamed_answer_is_the_generated_one(model, array, ends):
    constraint = scripted(model, "cat é 犬", ends)
    limited = dataclasses.replace(LONG, max_new_tokens=len(constraint.tokens))
    (generated,) = model.generate(array, "caption en", decoding=limited, constraints=[constraint])
    pieces, answer = streamed(model, array, "caption en", decoding=limited, constraint=constraint)
    assert isinstance(answer, Generation)
    assert answer == generated
    assert "".join(pieces) == answer.text == "cat é 犬"
    assert answer.finish_reason == ("stop" if ends else "length")


@pytest.mark.parametrize(
    ("stop", "method", "message"),
    [
        (";", "greedy", "stop is ';'"),
        (("a", ""), "greedy", "stop is"),
        ((1,), "greedy", "stop is"),
        ((";",), "beam", "which the method 'beam' does not use"),
    ],
)
def test_stop_texts_that_cannot_be_used(model, array, stop, method, message):
    with pytest.raises(InputError, match=message):
        model.generate(array, decoding=Decoding(method=method, stop=stop))
