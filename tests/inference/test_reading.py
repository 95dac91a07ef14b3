import torch

from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.reading import read_prompts, select_rows
from paligemma2.model.lora import attach
from paligemma2.model.piecewise import finish
from tests.inference.small_decoding import model_of, prompts_of, record_calls
from tests.small_adapter import EVERYTHING, random_adapter

TEXTS = [[3, 4], [5], [6, 7, 3, 4, 5], [4, 4, 4], [7]]


def test_equal_prompts_are_read_once(monkeypatch):
    small = model_of(12, seed=3)
    calls = record_calls(small, monkeypatch)
    inputs = select_rows(small, prompts_of(small, TEXTS), [2, 0, 2, 2, 0])
    logits, cache = finish(read_prompts(small, ImageTokens(small), inputs, 3, [None] * 5))
    assert ("read", 2) in calls
    plain, _ = small.prefill(
        inputs.token_ids,
        small.encode_images(inputs.pixel_values)[inputs.image_index],
        inputs.layout,
        3,
    )
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=0)
    assert cache.num_rows == 5


def test_prompts_that_differ_in_their_adapter_alone_are_read_apart_with_one_picture(monkeypatch):
    small = model_of(12, seed=3)
    attach(small, {name: random_adapter(small.config, seed=seed) for seed, name in enumerate(("a", "b"))})
    calls = record_calls(small, monkeypatch)
    inputs, images = select_rows(small, prompts_of(small, TEXTS), [0] * 4), ImageTokens(small)
    logits, _ = finish(read_prompts(small, images, inputs, 3, ["a", None, "b", "a"]))
    assert calls == [("images", 1), ("read", 3)]
    assert torch.equal(logits[0], logits[3])
    for row, name in enumerate(("a", None, "b")):
        alone, _ = finish(read_prompts(small, images, select_rows(small, inputs, [0]), 3, [name]))
        torch.testing.assert_close(alone[0], logits[row], atol=1e-5, rtol=0)
        assert (logits[row] - logits[(row + 1) % 3]).abs().max() > 1e-3
    assert calls.count(("images", 1)) == 1


def test_a_picture_is_encoded_again_for_an_adapter_that_changes_the_encoder(monkeypatch):
    small = model_of(12, seed=3)
    attach(small, {"sees": random_adapter(small.config, EVERYTHING), "a": random_adapter(small.config)})
    calls = record_calls(small, monkeypatch)
    inputs, images = select_rows(small, prompts_of(small, TEXTS), [0, 2, 0, 0]), ImageTokens(small)
    names = ["a", "sees", None, "sees"]
    logits, _ = finish(read_prompts(small, images, inputs, 3, names))
    assert calls == [("images", 3), ("read", 4)]  # two pictures, one of them in two ways
    calls.clear()
    for row, name in enumerate(names):
        alone, _ = finish(read_prompts(small, images, select_rows(small, inputs, [row]), 3, [name]))
        torch.testing.assert_close(alone[0], logits[row], atol=1e-5, rtol=0)
    assert ("images", 1) not in calls
