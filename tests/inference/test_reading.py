import torch

from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.reading import read_prompts, select_rows
from paligemma2.model.piecewise import finish
from tests.inference.small_decoding import model_of, prompts_of, record_calls

TEXTS = [[3, 4], [5], [6, 7, 3, 4, 5], [4, 4, 4], [7]]


def test_equal_prompts_are_read_once(monkeypatch):
    small = model_of(12, seed=3)
    calls = record_calls(small, monkeypatch)
    inputs = select_rows(small, prompts_of(small, TEXTS), [2, 0, 2, 2, 0])
    logits, cache = finish(read_prompts(small, ImageTokens(small), inputs, 3))
    assert ("read", 2) in calls
    plain, _ = small.prefill(
        inputs.token_ids,
        small.encode_images(inputs.pixel_values)[inputs.image_index],
        inputs.layout,
        3,
    )
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=0)
    assert cache.num_rows == 5
