import dataclasses

import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference.constraints import answer_list, detect_grammar
from paligemma2.inference.decoding import decode
from paligemma2.inference.engine import Token
from paligemma2.inference.loading import load
from paligemma2.types import Decoding
from tests.inference.small_decoding import Script, all_log_probs, answers, log_probs_of, token_ids

METHODS = {
    "greedy": Decoding(max_new_tokens=8),
    "sample": Decoding(max_new_tokens=8, method="sample", seed=3),
    "beam": Decoding(max_new_tokens=8, method="beam", beams=3),
}


def decoded(model, inputs, max_new_tokens, constraints=None):
    return list(decode(model.model, inputs, Decoding(max_new_tokens=max_new_tokens), constraints=constraints))


def ids_of(steps):
    return [[None if token is None else token.id for token in step] for step in steps]


def end_at(model, token):
    """Let this token be the end token."""
    model.model.config = dataclasses.replace(model.config, eos_token_id=token)


def test_the_cache_gives_the_same_tokens_as_reading_everything_again(model, array):
    inputs = model.encode(array, "caption en")
    (tokens,) = token_ids(answers(model.model, inputs, Decoding(max_new_tokens=6)))
    assert len(tokens) == 6
    read = all_log_probs(model.model, inputs, 0, [tokens])
    assert read[0].argmax(dim=-1).tolist() == list(tokens)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_constrained", [False, True])
def test_log_probs_are_those_of_the_model_itself(model, array, pictures, method, is_constrained):
    inputs = model.encode([array, pictures[0]], ["caption en", "detect cat ; dog"])
    grammar = detect_grammar(model.processor.tokenizer, ["cat", "dog"])
    constraints = [None, grammar] if is_constrained else None
    for row, tokens in enumerate(answers(model.model, inputs, METHODS[method], constraints)):
        ids = [token.id for token in tokens]
        expected = log_probs_of(model.model, inputs, row, [ids])[0]
        torch.testing.assert_close(torch.tensor([t.log_prob for t in tokens]), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_log_probs_cost_no_further_pass(model, array, method, monkeypatch):
    calls = []
    in_pieces = model.model.language_model.in_pieces
    monkeypatch.setattr(
        model.model.language_model, "in_pieces", lambda *given: calls.append(1) or in_pieces(*given)
    )
    (tokens,) = answers(model.model, model.encode(array, "caption en"), METHODS[method])
    assert len(tokens) == len(calls) == 8


def test_a_row_that_has_ended_gives_none_while_others_go_on(model, array, pictures):
    inputs = model.encode([array, pictures[0]], ["caption en", "detect cat ; dog"])
    eos = model.config.eos_token_id
    steps = decoded(model, inputs, 10, [Script((5, eos)), Script((6, 7, 8, eos))])
    assert ids_of(steps) == [[5, 6], [eos, 7], [None, 8], [None, eos]]


def test_decoding_stops_at_the_limit(model, array):
    assert len(decoded(model, model.encode(array), 5)) == 5


@pytest.mark.parametrize("method", ["greedy", "sample"])
def test_tokens_arrive_before_the_next_are_computed(model, array, method, monkeypatch):
    steps = []
    step = model.model.step
    monkeypatch.setattr(model.model, "step", lambda *given: steps.append(1) or step(*given))
    tokens = decode(model.model, model.encode(array), METHODS[method])
    for count in range(8):
        assert isinstance(next(tokens)[0], Token)
        assert len(steps) == count


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_image_and_filler_tokens_are_never_chosen_however_likely(folder, array, method, sign):
    model = load(folder, device="cpu", for_training=True)
    weight = model.model.language_model.embed_tokens.weight.data
    first = model.config.num_text_rows
    assert first < model.config.text.vocab_size
    weight[first:] = 1000.0 * sign * torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(0))
    weight[first + 1 :] *= -1  # one of the two directions is the most likely of all
    inputs = model.encode(array, "caption en")
    (tokens,) = answers(model.model, inputs, METHODS[method])
    logits = model.model(inputs.token_ids, inputs.pixel_values, inputs.layout)[0, -1]
    assert logits.argmax() >= first
    assert max(token.id for token in tokens) < first
    assert all(token.log_prob > -100 for token in tokens)  # nor do they take probability away


def test_a_picture_asked_several_times_is_encoded_once(model, array, pictures, monkeypatch):
    encoded = []
    encode = model.model.encode_images_in_pieces

    def count(pixel_values):
        encoded.append(pixel_values.shape[0])
        return encode(pixel_values)

    monkeypatch.setattr(model.model, "encode_images_in_pieces", count)
    prompts = ["caption en", "ocr", "detect cat"]
    images = [array, [array, pictures[0]], array]
    together = model.generate(images, prompts, 4)
    assert encoded == [2]
    alone = [model.generate(each, p, 4)[0] for each, p in zip(images, prompts, strict=True)]
    assert encoded == [2], "later questions about the same pictures find them encoded"
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]


@pytest.mark.parametrize("method", METHODS)
def test_rows_obey_their_own_grammar_and_leave_the_others_alone(model, pictures, method):
    tokenizer, decoding = model.processor.tokenizer, METHODS[method]
    prompts = ["caption en", "detect cat", "answer en is this a cat ?", "ocr"]
    grammars = [None, detect_grammar(tokenizer, ["cat"]), answer_list(tokenizer, ["cat", "a dog"]), None]
    together = answers(model.model, model.encode(list(pictures), prompts), decoding, grammars)
    for picture, prompt, grammar, tokens in zip(pictures, prompts, grammars, together, strict=True):
        (alone,) = answers(model.model, model.encode(picture, prompt), decoding, [grammar])
        assert token_ids([tokens]) == token_ids([alone])
    assert tokenizer.decode(token_ids(together)[2]) in {"cat", "a dog"}


@pytest.mark.parametrize("over_room", [False, True])
def test_a_limit_that_does_not_fit_is_refused(model, array, over_room):
    inputs = model.encode(array)
    room = model.config.text.max_positions - inputs.token_ids.shape[1]
    with pytest.raises(InputError, match="max_new_tokens"):
        decoded(model, inputs, room + 1 if over_room else 0)


def test_the_whole_context_can_be_used(model, array):
    room = model.config.text.max_positions - model.encode(array).token_ids.shape[1]
    eos = model.config.eos_token_id
    assert ids_of(decoded(model, model.encode(array), room, [Script((eos,))])) == [[eos]]


@pytest.mark.parametrize("method", METHODS)
def test_the_end_token_of_the_configuration_ends(model, array, method):
    inputs = model.encode(array)
    (tokens,) = token_ids(answers(model.model, inputs, METHODS[method]))
    end_at(model, tokens[-1])
    (ended,) = token_ids(answers(model.model, inputs, METHODS[method]))
    assert ended[-1] == tokens[-1]
    assert tokens[-1] not in ended[:-1]
    if method != "beam":  # a beam may end earlier by another way
        assert ended == tokens[: tokens.index(tokens[-1]) + 1]


def test_settings_are_checked_before_anything_is_computed(model, array):
    with pytest.raises(InputError, match=r"temperature is 0\.0"):
        next(decode(model.model, model.encode(array), Decoding(method="sample", temperature=0.0)))


def test_the_best_of_several_is_the_most_likely_of_what_their_seeds_give(model, array, pictures):
    inputs = model.encode([array, pictures[0]], ["caption en", "detect cat ; dog"])
    best = answers(model.model, inputs, Decoding(max_new_tokens=5, method="sample", seed=4, best_of=3))
    each = [
        answers(model.model, inputs, Decoding(max_new_tokens=5, method="sample", seed=seed))
        for seed in (4, 5, 6)
    ]
    for row, tokens in enumerate(best):
        candidates = {tuple(t.id for t in rows[row]): sum(t.log_prob for t in rows[row]) for rows in each}
        assert len(candidates) == 3
        assert tuple(token.id for token in tokens) == max(candidates, key=candidates.__getitem__)


def test_the_best_of_several_reads_the_prompt_once(model, array, monkeypatch):
    read = []
    prefill = model.model.prefill_in_pieces
    monkeypatch.setattr(
        model.model, "prefill_in_pieces", lambda ids, *rest: read.append(len(ids)) or prefill(ids, *rest)
    )
    model.generate(array, "caption en", decoding=Decoding(max_new_tokens=3, method="sample", best_of=4))
    assert read == [1]


def test_there_is_one_constraint_per_row(model, array):
    with pytest.raises(InputError, match="2 constraints for 1 prompts"):
        decoded(model, model.encode(array), 5, [None, None])


@pytest.mark.parametrize("method", METHODS)
def test_a_grammar_without_an_answer_short_enough_is_refused(model, array, method):
    with pytest.raises(InputError, match="shortest answer allowed has 9 tokens, max_new_tokens is 8"):
        answers(model.model, model.encode(array), METHODS[method], [Script((5,) * 9)])
