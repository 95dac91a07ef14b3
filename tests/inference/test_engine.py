import dataclasses

import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference.engine import decode, most_likely


def decoded(model, inputs, max_new_tokens, **options):
    return list(decode(model.model, inputs, max_new_tokens, **options))


def end_at(model, token):
    """Let this token be the end token."""
    model.model.config = dataclasses.replace(model.config, eos_token_id=token)


def test_the_most_likely_token_is_chosen():
    assert most_likely(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [1, 0]


def test_the_cache_gives_the_same_tokens_as_reading_everything_again(model, array):
    inputs = model.encode(array, "caption en")
    tokens = [step[0] for step in decoded(model, inputs, 6)]
    assert len(tokens) == 6
    for count in range(6):
        forced = iter(tokens[:count])
        steps = decoded(model, inputs, count + 1, choose=lambda logits, f=forced: pick(logits, f))
        assert steps[-1][0] == tokens[count]


def pick(logits, forced):
    token = next(forced, None)
    return most_likely(logits) if token is None else torch.tensor([token])


def test_a_row_that_has_ended_gives_none_while_others_go_on(model, array, pictures):
    inputs = model.encode([array, pictures[0]], ["caption en", "detect cat ; dog"])
    script = iter([[5, 6], [model.config.eos_token_id, 7], [9, 8], [9, model.config.eos_token_id], [1, 1]])
    steps = decoded(model, inputs, 10, choose=lambda logits: torch.tensor(next(script)))
    eos = model.config.eos_token_id
    assert steps == [[5, 6], [eos, 7], [None, 8], [None, eos]]


def test_decoding_stops_at_the_limit(model, array):
    assert len(decoded(model, model.encode(array), 5)) == 5


def test_only_tokens_that_may_be_produced_are_offered(model, array):
    seen = []

    def choose(logits):
        seen.append(tuple(logits.shape))
        return most_likely(logits)

    decoded(model, model.encode(array), 2, choose=choose)
    assert seen == [(1, model.config.num_text_rows)] * 2
    assert model.config.num_text_rows < model.config.text.vocab_size


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_image_and_filler_tokens_are_never_chosen_however_likely(model, array, sign):
    weight = model.model.language_model.embed_tokens.weight.data
    first = model.config.num_text_rows
    weight[first:] = 1000.0 * sign * torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(0))
    weight[first + 1 :] *= -1  # one of the two directions is the most likely of all
    inputs = model.encode(array, "caption en")
    tokens = [step[0] for step in decoded(model, inputs, 8)]
    logits = model.model(inputs.token_ids, inputs.pixel_values, inputs.layout)[0, -1]
    assert logits.argmax() >= first
    assert max(tokens) < first


def test_a_picture_asked_several_times_is_encoded_once(model, array, pictures, monkeypatch):
    encoded = []
    encode_images = model.model.encode_images

    def count(pixel_values):
        encoded.append(pixel_values.shape[0])
        return encode_images(pixel_values)

    monkeypatch.setattr(model.model, "encode_images", count)
    prompts = ["caption en", "ocr", "detect cat"]
    images = [array, [array, pictures[0]], array]
    together = model.generate(images, prompts, 4)
    assert encoded == [2]
    alone = [model.generate(each, p, 4)[0] for each, p in zip(images, prompts, strict=True)]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]


@pytest.mark.parametrize("over_room", [False, True])
def test_a_limit_that_does_not_fit_is_refused(model, array, over_room):
    inputs = model.encode(array)
    room = model.config.text.max_positions - inputs.token_ids.shape[1]
    with pytest.raises(InputError, match="max_new_tokens"):
        decoded(model, inputs, room + 1 if over_room else 0)


def test_the_whole_context_can_be_used(model, array):
    room = model.config.text.max_positions - model.encode(array).token_ids.shape[1]
    eos = model.config.eos_token_id
    steps = decoded(model, model.encode(array), room, choose=lambda logits: torch.tensor([eos]))
    assert steps == [[eos]]


def test_the_end_token_of_the_configuration_ends(model, array):
    tokens = [step[0] for step in decoded(model, model.encode(array), 12)]
    end_at(model, tokens[-1])
    ended = [step[0] for step in decoded(model, model.encode(array), 12)]
    assert ended == tokens[: tokens.index(tokens[-1]) + 1]
