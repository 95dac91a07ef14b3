from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.model.cache import KVCache
from paligemma2.model.config import TextConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout

IMAGE = 150
NUM_NEW = 10


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [
        [IMAGE] * 4 + [2, *torch.randint(3, 140, (length,), generator=generator).tolist(), 10]
        for length in (6, 1, 11)
    ]


def images() -> Tensor:
    return torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(6)) * 2 - 1


def left_padded(rows: list[list[int]]) -> tuple[Tensor, PrefixLayout]:
    seq = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (seq - len(row)) + row for row in rows])
    is_valid = torch.tensor([[False] * (seq - len(row)) + [True] * len(row) for row in rows])
    return ids, PrefixLayout.from_flags(is_valid, is_valid)


def greedy(
    model: PaliGemma2Model, rows: list[list[int]], pixel_values: Tensor, num_new: int = NUM_NEW
) -> tuple[Tensor, Tensor]:
    """Tokens [batch, new] and their logits [batch, new, vocab], decoded with a cache."""
    ids, layout = left_padded(rows)
    logits, cache = model.prefill(ids, model.encode_images(pixel_values), layout, num_new)
    tokens, steps = [], []
    for _ in range(num_new):
        steps.append(logits)
        tokens.append(logits[:, :IMAGE].argmax(-1))
        logits = model.step(tokens[-1], cache)
    return torch.stack(tokens, 1), torch.stack(steps, 1)


@pytest.mark.parametrize("window", [None, 3, 100])
def test_unequal_prompts_decode_together_as_they_do_alone(
    small_model: Callable[..., PaliGemma2Model], window: int | None
) -> None:
    model = small_model(sliding_window=window)
    together, logits = greedy(model, prompts(), images())
    for i, row in enumerate(prompts()):
        alone, alone_logits = greedy(model, [row], images()[i : i + 1])
        assert together[i].tolist() == alone[0].tolist()
        torch.testing.assert_close(logits[i], alone_logits[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("window", [None, 1, 4])
def test_every_step_equals_computing_everything_again(
    small_model: Callable[..., PaliGemma2Model], window: int | None
) -> None:
    model = small_model(sliding_window=window)
    tokens, steps = greedy(model, prompts(), images())
    ids, layout = left_padded(prompts())
    whole = torch.cat([ids, tokens[:, :-1]], dim=1)
    added = torch.ones_like(tokens[:, :-1], dtype=torch.bool)
    full = PrefixLayout.from_flags(
        torch.cat([layout.is_valid, added], 1), torch.cat([layout.is_valid, ~added], 1)
    )
    logits = model(whole, images(), full)[:, ids.shape[1] - 1 :]
    torch.testing.assert_close(steps, logits, atol=1e-4, rtol=0)
    assert len(set(tokens.flatten().tolist())) > 3, "a model that repeats one token proves little"


def test_the_window_changes_what_is_decoded(small_model: Callable[..., PaliGemma2Model]) -> None:
    _, without = greedy(small_model(), prompts(), images())
    _, with_window = greedy(small_model(sliding_window=3), prompts(), images())
    assert torch.equal(without[:, 0], with_window[:, 0]), "the prompt is never cut by the window"
    assert (without[:, 1:] - with_window[:, 1:]).abs().max() > 0.1


def test_memory_is_reserved_once_and_filled_to_the_end(
    small_model: Callable[..., PaliGemma2Model],
) -> None:
    model = small_model()
    text = model.config.text
    ids, layout = left_padded(prompts())
    logits, cache = model.prefill(ids, model.encode_images(images()), layout, NUM_NEW)
    places = cache.keys.data_ptr(), cache.values.data_ptr(), cache.is_valid.data_ptr()
    assert cache.capacity == ids.shape[1] + NUM_NEW
    shape = (text.num_layers, len(ids), text.num_kv_heads, cache.capacity, text.head_dim)
    assert cache.keys.shape == cache.values.shape == shape
    for step in range(NUM_NEW):
        assert cache.lengths == [ids.shape[1] + step] * len(ids)
        logits = model.step(logits.argmax(-1), cache)
    assert (cache.keys.data_ptr(), cache.values.data_ptr(), cache.is_valid.data_ptr()) == places
    assert cache.longest == cache.capacity
    assert cache.is_valid.sum(1).tolist() == [len(row) + NUM_NEW for row in prompts()]
    assert cache.next_positions.tolist() == [len(row) + NUM_NEW + 1 for row in prompts()]
    assert cache.keys.abs().sum((0, 1, 2, 4)).gt(0).all()


@pytest.mark.parametrize("window", [None, 3, 100])
def test_known_tokens_read_at_once_give_the_logits_of_one_by_one(
    small_model: Callable[..., PaliGemma2Model], window: int | None
) -> None:
    model = small_model(sliding_window=window)
    tokens, expected = greedy(model, prompts(), images())
    ids, layout = left_padded(prompts())
    first, cache = model.prefill(ids, model.encode_images(images()), layout, NUM_NEW)
    parts = [first[:, None], model.extend(tokens[:, :4], cache), model.extend(tokens[:, 4:-1], cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-4, rtol=0)
    assert cache.longest == ids.shape[1] + NUM_NEW - 1
    with pytest.raises(InputError, match="the cache is full with 26 of 27 tokens; 2 more do not fit"):
        model.extend(tokens[:, :2], cache)


def test_written_keys_come_back_as_views() -> None:
    config = TextConfig(
        vocab_size=8,
        hidden_size=4,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=2,
        intermediate_size=4,
    )
    _, layout = left_padded([[5, 6, 7]])
    cache = KVCache.for_prompts(config, layout, 2, torch.bfloat16)
    new = torch.randn(1, 1, 3, 2).bfloat16()
    keys, values = cache.write(1, new, 2 * new)
    assert torch.equal(keys, new)
    assert torch.equal(values, 2 * new)
    assert keys.untyped_storage().data_ptr() == cache.keys.untyped_storage().data_ptr()
    assert not cache.keys[0].any()
    assert cache.lengths == [0], "tokens count only after every layer has written them"
    cache.hold(layout)
    assert cache.lengths == [3]
    assert cache.write(0, new[:, :, :1], new[:, :, :1])[0].shape == (1, 1, 4, 2)


def test_padding_and_empty_slots_are_never_visible() -> None:
    config = TextConfig(num_layers=1, hidden_size=4, num_heads=2, num_kv_heads=1, head_dim=2)
    _, layout = left_padded([[5, 6, 7], [8]])
    cache = KVCache.for_prompts(config, layout, 4, torch.float32)
    cache.hold(layout)
    assert cache.visible(None)[:, 0, 0].int().tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert cache.visible(2)[:, 0, 0].int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert cache.visible(1)[:, 0, 0].int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]
    assert cache.visible(None, 2)[1, 0].int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert cache.visible(2, 2)[0, 0].int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    assert not cache.is_valid[:, 3:].any(), "asking what is visible stores nothing"


def filled_cache(num_new: int) -> KVCache:
    """Three rows of random content with all slots in use."""
    _, layout = left_padded([[3] * 5, [3] * 2, [3] * 4])
    config = TextConfig(num_layers=2, hidden_size=8, num_heads=2, num_kv_heads=1, head_dim=4)
    cache = KVCache.for_prompts(config, layout, num_new, torch.float32)
    generator = torch.Generator().manual_seed(1)
    cache.keys.normal_(generator=generator)
    cache.values.normal_(generator=generator)
    cache.hold(layout)
    cache.advance(num_new)
    return cache


def test_repeated_rows_stand_one_after_the_other() -> None:
    cache = filled_cache(2)
    twice = cache.repeated(2)
    for copy in (0, 1):
        assert torch.equal(twice.keys[:, copy::2], cache.keys)
        assert torch.equal(twice.values[:, copy::2], cache.values)
        assert torch.equal(twice.is_valid[copy::2], cache.is_valid)
        assert torch.equal(twice.next_positions[copy::2], cache.next_positions)
    assert (twice.lengths[::2], twice.capacity) == (cache.lengths, cache.capacity)
    twice.keys.zero_()
    assert bool(cache.keys.any())


@pytest.mark.parametrize("sources", [(0, 1, 2), (1, 0, 2), (2, 2, 2), (1, 2, 0)])
def test_rows_take_over_what_differs_and_nothing_else(sources: tuple[int, ...]) -> None:
    cache = filled_cache(3)
    keys, values = cache.keys.clone(), cache.values.clone()
    cache.lengths = [length - 1 for length in cache.lengths]
    cache.reorder(sources, start=5)
    for new, old in ((cache.keys, keys), (cache.values, values)):
        assert torch.equal(new[:, :, :, 5:7], old[:, list(sources), :, 5:7])
        assert torch.equal(new[:, :, :, :5], old[:, :, :, :5])
        assert torch.equal(new[:, :, :, 7:], old[:, :, :, 7:])


def joined(caches: Sequence[KVCache], config: TextConfig, capacity: int) -> KVCache:
    """All rows of some caches in one, without their padding."""
    rows = [(cache, row) for cache in caches for row in range(cache.num_rows)]
    whole = KVCache.reserve(config, len(rows) + 1, capacity, dtype=torch.float32, device=torch.device("cpu"))
    for cache, row in rows:
        whole.take(cache, row)
    return whole


@pytest.mark.parametrize("window", [None, 3])
def test_rows_of_different_lengths_go_on_together_as_they_do_alone(
    small_model: Callable[..., PaliGemma2Model], window: int | None
) -> None:
    model = small_model(sliding_window=window)
    tokens, expected = greedy(model, prompts(), images())
    ids, layout = left_padded(prompts())
    _, first = model.prefill(ids[:2], model.encode_images(images()[:2]), _rows(layout, 0, 2), 1)
    _, second = model.prefill(ids[2:], model.encode_images(images()[2:]), _rows(layout, 2, 3), 1)
    cache = joined([first, second], model.config.text, 30)
    assert cache.lengths == [len(row) for row in prompts()]
    for step in range(3):
        logits = model.step(tokens[:, step], cache)
        torch.testing.assert_close(logits, expected[:, step + 1], atol=1e-4, rtol=0)
    cache.drop(0)  # the last row takes its place
    for step in range(3, NUM_NEW - 1):
        logits = model.step(tokens[[2, 1], step], cache)
        torch.testing.assert_close(logits, expected[[2, 1], step + 1], atol=1e-4, rtol=0)
    cache.drop(1)
    assert cache.lengths == [len(prompts()[2]) + NUM_NEW - 1]
    assert cache.visible(None).shape == (1, 1, 1, cache.longest + 1)


def _rows(layout: PrefixLayout, start: int, stop: int) -> PrefixLayout:
    return PrefixLayout(
        layout.segments[start:stop], layout.is_prefix[start:stop], layout.positions[start:stop]
    )


def test_a_freed_place_shows_nothing_of_the_row_before() -> None:
    config = TextConfig(num_layers=1, hidden_size=4, num_heads=2, num_kv_heads=1, head_dim=2)
    _, long = left_padded([[5] * 6])
    _, short = left_padded([[5, 6]])
    caches = []
    for layout in (long, short):
        cache = KVCache.for_prompts(config, layout, 0, torch.float32)
        cache.hold(layout)
        caches.append(cache)
    whole = joined(caches[:1], config, 8)
    whole.drop(0)
    assert whole.num_rows == whole.longest == 0
    whole.take(caches[1], 0)
    assert whole.visible(None)[0, 0].int().tolist() == [[1, 1, 1]]
    assert whole.is_valid[0].int().tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert whole.next_positions[0] == 3
