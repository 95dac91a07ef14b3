import math
import random

import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference.scoring import score_suffixes
from paligemma2.types import ScoredSuffix
from tests.inference.small_decoding import log_probs_of, model_of, prompts_of


def suffixes_of(vocab, seed, number):
    rng = random.Random(seed)
    return [[*rng.choices(range(3, vocab), k=rng.randrange(8)), 1] for _ in range(number)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_are_those_of_reading_prompt_and_suffix_at_once(seed, batch_size):
    model = model_of(vocab=20, seed=seed)
    inputs = prompts_of(model, [[4, 5, 6]])
    suffixes = suffixes_of(20, seed, 7)
    scores = score_suffixes(model, inputs, suffixes, batch_size=batch_size)
    for suffix, row in zip(suffixes, scores, strict=True):
        expected = log_probs_of(model, inputs, 0, [suffix])[0]
        torch.testing.assert_close(torch.tensor(row), expected, atol=1e-4, rtol=0)


def test_the_probabilities_of_all_answers_of_two_tokens_add_up_to_one():
    model = model_of(vocab=9, seed=5)
    inputs = prompts_of(model, [[4]])
    answers = [[a, b] for a in range(9) for b in range(9)]
    total = sum(math.exp(sum(row)) for row in score_suffixes(model, inputs, answers, batch_size=10))
    assert total == pytest.approx(1.0, abs=1e-5)


def test_the_prompt_is_read_once(model, array, monkeypatch):
    lengths = []
    in_pieces = model.model.language_model.in_pieces
    monkeypatch.setattr(
        model.model.language_model,
        "in_pieces",
        lambda x, *rest: lengths.append(tuple(x.shape[:2])) or in_pieces(x, *rest),
    )
    scores = model.score(array, "answer en is it?", ["yes", "no", "cat"], batch_size=2)
    prompt = model.encode(array, "answer en is it?").token_ids.shape[1]
    assert lengths[0] == (1, prompt)
    assert [rows for rows, _ in lengths[1:]] == [2, 1]
    assert [score.suffix for score in scores] == ["yes", "no", "cat"]


def test_what_greedy_decoding_wrote_has_the_score_that_it_was_given(model, array):
    (written,) = model.generate(array, "caption en", 6)
    assert (*written.token_ids, model.config.eos_token_id) == tuple(model.processor.suffix_ids(written.text))
    (scored,) = model.score(array, "caption en", [written.text])
    assert scored.log_probs[:-1] == pytest.approx(written.log_probs, abs=1e-4)


def test_location_tokens_in_a_suffix_are_meant(model, array):
    (scored,) = model.score(array, "detect cat", ["<loc0001><loc0002><loc0003><loc0004> cat"])
    assert len(scored.log_probs) == len(
        model.processor.suffix_ids("<loc0001><loc0002><loc0003><loc0004> cat")
    )
    assert len(scored.log_probs) < 10


def test_an_empty_answer_is_the_end_token_alone(model, array):
    (scored,) = model.score(array, "caption en", [""])
    assert len(scored.log_probs) == 1


def test_sum_and_perplexity():
    scored = ScoredSuffix(suffix="a b", log_probs=(math.log(0.5), math.log(0.25), math.log(0.125)))
    assert scored.log_prob == pytest.approx(math.log(1 / 64))
    assert scored.perplexity == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("suffixes", "batch_size", "message"),
    [
        ([], 4, "there are no suffixes to score"),
        (["yes"], 0, "batch_size is 0"),
        (["yes " * 2000], 4, "leaves room for"),
    ],
)
def test_what_cannot_be_scored_is_an_error(model, array, suffixes, batch_size, message):
    with pytest.raises(InputError, match=message):
        model.score(array, "caption en", suffixes, batch_size=batch_size)
