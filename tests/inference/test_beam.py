"""Beam search against enumeration, against a plain search without a cache, and against transformers."""

import itertools
import math

import pytest
import torch

from paligemma2.checkpoint.save import save_model
from paligemma2.inference.constraints import answer_list
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding
from tests.checkpoint.small_checkpoints import from_transformers
from tests.inference.small_decoding import (
    all_log_probs,
    answers,
    log_probs_of,
    model_of,
    prompts_of,
    token_ids,
)

END = 1
PROMPTS = [[3, 4, 2], [4], [2, 2]]


def beam_answers(model, inputs, limit, beams, penalty=0.0, rule="hf"):
    decoding = Decoding(
        max_new_tokens=limit, method="beam", beams=beams, length_penalty=penalty, beam_rule=rule
    )
    return token_ids(answers(model, inputs, decoding))


def score_of(log_probs: list[float], penalty: float) -> float:
    return sum(log_probs) / len(log_probs) ** penalty


def plain_search(
    model, inputs: ModelInputs, row: int, limit: int, beams: int, penalty: float, rule: str = "hf"
) -> tuple[int, ...]:
    """The same rules, every step read anew."""
    live, ended = [((), 0.0)], []
    for count in range(1, limit + 1):
        read = all_log_probs(model, inputs, row, [(*ids, 0) for ids, _ in live])[:, -1].tolist()
        found = [
            ((*ids, token), score + log_prob)
            for (ids, score), log_probs in zip(live, read, strict=True)
            for token, log_prob in enumerate(log_probs)
        ]
        found.sort(key=lambda each: -each[1])
        may_end = found[:beams] if rule == "hf" else found
        ended += [(ids, score / count**penalty) for ids, score in may_end if ids[-1] == END]
        live = [each for each in found if each[0][-1] != END][:beams]
    return max(ended, key=lambda each: each[1])[0] if ended else live[0][0]


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_beams_for_everything_find_the_best_of_all_answers(seed, penalty):
    vocab, limit = 5, 4
    model = model_of(vocab, seed)
    inputs = prompts_of(model, PROMPTS)
    found = beam_answers(model, inputs, limit, beams=vocab ** (limit - 1), penalty=penalty)
    everything = list(itertools.product(range(vocab), repeat=limit))
    for row, answer in enumerate(found):
        scores = {}
        read = log_probs_of(model, inputs, row, everything).tolist()
        for ids, log_probs in zip(everything, read, strict=True):
            if END in ids:
                length = ids.index(END) + 1
                scores[ids[:length]] = score_of(log_probs[:length], penalty)
        best = max(scores, key=scores.__getitem__)
        assert answer == best or scores[best] - scores[answer] < 1e-5


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("texts", [PROMPTS, PROMPTS[:1]], ids=["batch", "alone"])
@pytest.mark.parametrize("seed", range(2))
def test_few_beams_give_what_a_plain_search_gives(seed, texts, beams, penalty):
    model = model_of(12, seed)
    inputs = prompts_of(model, texts)
    found = beam_answers(model, inputs, 6, beams, penalty)
    assert found == [plain_search(model, inputs, row, 6, beams, penalty) for row in range(len(texts))]


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_by_the_rule_of_big_vision_every_beam_may_end_at_every_step(seed, beams):
    model = model_of(12, seed)
    inputs = prompts_of(model, PROMPTS)
    found = beam_answers(model, inputs, 6, beams, rule="big_vision")
    rows = range(len(PROMPTS))
    assert found == [plain_search(model, inputs, row, 6, beams, 0.0, "big_vision") for row in rows]
    assert all(answer[-1] == END for answer in found), "what has ended goes before what was cut"


def test_one_beam_is_greedy():
    lengths = set()
    for seed in range(12):
        model = model_of(8, seed)
        inputs = prompts_of(model, PROMPTS)
        greedy = answers(model, inputs, Decoding(max_new_tokens=10))
        assert beam_answers(model, inputs, 10, beams=1) == token_ids(greedy)
        lengths |= {len(row) for row in greedy}
    assert len(lengths) > 2


def test_beams_find_better_answers_than_greedy():
    gains = []
    for seed in range(8):
        model = model_of(8, seed)
        inputs = prompts_of(model, PROMPTS)
        greedy = answers(model, inputs, Decoding(max_new_tokens=8))
        best = answers(model, inputs, Decoding(max_new_tokens=8, method="beam", beams=4))
        for one, other in zip(greedy, best, strict=True):
            if one[-1].id == other[-1].id == END:
                gains.append(sum(t.log_prob for t in other) - sum(t.log_prob for t in one))
    assert sum(gain > 0.1 for gain in gains) > 2
    assert sum(gain < -0.1 for gain in gains) == 0


@pytest.fixture(scope="module", params=range(2))
def both(request, tmp_path_factory):
    """A model of ours and the same in transformers."""
    ours = model_of(12, request.param)
    folder = tmp_path_factory.mktemp("beam") / "model"
    save_model(folder, ours, ours.config)
    return ours, from_transformers(folder)


def their_answers(model, inputs, limit, beams, penalty):
    fillers = range(model.config.image_token_id, model.config.text_config.vocab_size)
    generated = model.generate(
        input_ids=inputs.token_ids,
        pixel_values=inputs.pixel_values,
        attention_mask=inputs.layout.is_valid.long(),
        token_type_ids=torch.zeros_like(inputs.token_ids),
        max_new_tokens=limit,
        do_sample=False,
        num_beams=beams,
        length_penalty=penalty,
        early_stopping="never",
        suppress_tokens=list(fillers),
        renormalize_logits=True,
        eos_token_id=END,
        pad_token_id=0,
    )
    return [tuple(row) for row in generated[:, inputs.token_ids.shape[1] :].tolist()]


@pytest.mark.parametrize("beams", [2, 4])
def test_the_answers_are_those_of_transformers(both, beams):
    ours, theirs = both
    inputs = prompts_of(ours, [[3, 4, 2], [4], [2, 2], [5, 6, 7, 8, 9], [10, 3]])
    num_ended = 0
    for penalty in (0.0, 0.3, 1.0):
        found = beam_answers(ours, inputs, 8, beams, penalty)
        for mine, padded in zip(found, their_answers(theirs, inputs, 8, beams, penalty), strict=True):
            if END in padded:
                assert mine == padded[: padded.index(END) + 1]
                num_ended += 1
            else:  # theirs may prefer what was cut off
                assert mine == padded or mine[-1] == END
    assert num_ended > 3


def test_the_best_of_a_closed_list_is_found(model, array):
    tokenizer, network = model.processor.tokenizer, model.model
    texts = ["cat", "dog", "a cat", "what is this", "a dog ; cat", "is"]
    inputs = model.encode(array, "answer en what is this ?")
    decoding = Decoding(max_new_tokens=12, method="beam", beams=len(texts))
    (found,) = token_ids(answers(network, inputs, decoding, [answer_list(tokenizer, texts)]))
    scores = {}
    for text in texts:
        ids = (*tokenizer.encode(text), END)
        scores[ids] = log_probs_of(network, inputs, 0, [ids]).sum().item()
    assert found == max(scores, key=scores.__getitem__)


@pytest.mark.parametrize("beams", [2, 3, 7])
def test_more_beams_than_answers_are_no_trouble(model, array, beams):
    grammar = answer_list(model.processor.tokenizer, ["cat"])
    decoding = Decoding(max_new_tokens=5, method="beam", beams=beams)
    (found,) = answers(model.model, model.encode(array), decoding, [grammar])
    assert model.processor.tokenizer.decode(token_ids([found])[0]) == "cat"
    assert all(math.isfinite(token.log_prob) for token in found)
