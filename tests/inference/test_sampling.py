import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paligemma2.inference.decoding import decode
from paligemma2.inference.sampling import device_for_float64, draw, most_likely, random_streams, sample
from paligemma2.types import Decoding
from tests.inference.small_decoding import answers, model_of, prompts_of, token_ids

ALMOST_ONE = 1 - 2.0**-53
PROMPTS = [[3, 4, 5], [6], [3, 5], [4, 4, 4, 4]]


def counts_of(logits: list[float], num_draws: int, **settings: float) -> np.ndarray:
    """How often each token is drawn by evenly spaced draws."""
    draws = (torch.arange(num_draws, dtype=torch.float64) + 0.5) / num_draws
    tokens = sample(torch.tensor([logits]).expand(num_draws, -1), draws, **settings)
    return np.bincount(tokens.numpy(), minlength=len(logits))


def expected_distribution(logits: list[float], temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The best `top_k`; of these, sorted, one token at a time until `top_p` is reached."""
    weights = np.exp(np.array(logits) / temperature)
    weights[np.argsort(-weights)[top_k:]] = 0.0
    weights /= weights.sum()
    kept = np.zeros_like(weights)
    for token in np.argsort(-weights):
        if kept.sum() >= top_p:
            break
        kept[token] = weights[token]
    return kept / kept.sum()


def test_the_most_likely_token_is_chosen():
    assert most_likely(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [1, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-4, 4), min_size=1, max_size=8, unique=True),
    st.floats(0.3, 3.0),
    st.sampled_from([1, 2, 5, 8, 20]),
    st.sampled_from([0.1, 0.5, 0.8, 1.0]),
)
def test_tokens_are_drawn_as_often_as_their_probability_says(logits, temperature, top_k, top_p):
    expected = expected_distribution(logits, temperature, top_k, top_p)
    cumulative = np.sort(expected)[::-1].cumsum()
    if len(set(np.round(logits, 3))) < len(logits) or np.abs(cumulative - top_p).min() < 1e-4:
        return  # ties, and a sum that hits top_p but for rounding, may fall either way
    counts = counts_of(logits, 1000, temperature=temperature, top_k=top_k, top_p=top_p)
    assert np.abs(counts - 1000 * expected).max() <= 1.01


def test_the_token_that_reaches_top_p_is_kept():
    logits = [float(np.log(p)) for p in (0.1, 0.5, 0.4)]
    assert counts_of(logits, 90, top_p=0.6).tolist() == [0, 50, 40]
    assert counts_of(logits, 90, top_p=0.4).tolist() == [0, 90, 0]


def test_tokens_as_likely_as_the_last_of_top_k_stay():
    assert counts_of([0.0, 1.0, 0.0, -1.0], 1000, top_k=2)[3] == 0
    assert (counts_of([0.0, 1.0, 0.0, -1.0], 1000, top_k=2)[:3] > 200).all()


def test_a_device_without_float64_leaves_the_sums_to_the_cpu():
    assert device_for_float64(torch.device("mps")) == torch.device("cpu")
    for name in ("cpu", "cuda:1", "meta"):
        assert device_for_float64(torch.device(name)) == torch.device(name)


def test_a_low_temperature_is_greedy():
    assert counts_of([1.0, 1.5, 0.0], 50, temperature=0.01).tolist() == [0, 50, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any), st.floats(0, ALMOST_ONE))
def test_a_token_without_probability_is_never_drawn(is_offered, number):
    logits = torch.where(torch.tensor(is_offered), 0.0, -torch.inf)[None].expand(3, -1)
    draws = torch.tensor([0.0, number, ALMOST_ONE], dtype=torch.float64)
    assert all(is_offered[token] for token in sample(logits, draws).tolist())


def test_a_row_gives_the_same_tokens_whatever_else_is_in_the_batch():
    model = model_of(40, seed=0)
    inputs = prompts_of(model, PROMPTS)
    decoding = Decoding(max_new_tokens=12, method="sample", temperature=1.5, seed=7)
    together = token_ids(answers(model, inputs, decoding))
    for row, text in enumerate(PROMPTS):
        alone = prompts_of(model, [text])
        alone = dataclasses.replace(alone, pixel_values=inputs.pixel_values[row : row + 1])
        assert token_ids(answers(model, alone, decoding)) == [together[row]]
    assert len(set(together)) == len(PROMPTS)


def test_another_seed_gives_other_tokens_and_the_same_seed_the_same():
    model = model_of(40, seed=0)
    inputs = prompts_of(model, PROMPTS[:1])

    def tokens(seed: int) -> list[tuple[int, ...]]:
        return token_ids(answers(model, inputs, Decoding(max_new_tokens=12, method="sample", seed=seed)))

    assert tokens(1) == tokens(1)
    assert len({tuple(tokens(seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("what", ["prompt", "picture", "seed"])
def test_random_numbers_depend_on_prompt_picture_and_seed(what):
    model = model_of(40, seed=0)
    first = random_streams(prompts_of(model, [[3]]), model.config, [0])
    other = prompts_of(model, [[4 if what == "prompt" else 3]], seed=9 if what == "picture" else 0)
    second = random_streams(other, model.config, [1 if what == "seed" else 0])
    assert draw(first) != draw(second)


def test_one_token_is_drawn_by_the_models_distribution():
    model = model_of(6, seed=2)
    inputs = prompts_of(model, [[3]])
    expected = model(inputs.token_ids, inputs.pixel_values, inputs.layout)[0, -1, :6].softmax(-1)
    decodings = (Decoding(max_new_tokens=1, method="sample", seed=seed) for seed in range(200))
    drawn = [next(decode(model, inputs, decoding))[0] for decoding in decodings]
    counts = torch.bincount(torch.tensor([token.id for token in drawn]), minlength=6)
    # Five standard deviations of a count; the seeds are fixed.
    assert ((counts - 200 * expected).abs() < 5 * (200 * expected).sqrt() + 1).all()
