import dataclasses

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from paligemma2.checkpoint.layouts import EMBEDDING
from paligemma2.inference.decoding import decode
from paligemma2.jobs.bench import random_model
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig, preset
from paligemma2.model.memory import MemoryPlan, inference_memory
from paligemma2.model.packed_linear import has_packed_kernels
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.model.weight_forms import packed_form, refill, stored_bytes
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding

BASE = ModelConfig(
    vision=VisionConfig(image_size=224, hidden_size=144, num_layers=2, num_heads=4, intermediate_size=576),
    text=TextConfig(
        vocab_size=2000,
        hidden_size=256,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=64,
        intermediate_size=1024,
        query_pre_attn_scalar=64.0,
    ),
    image_token_id=1990,
)


def varied(vision=None, **text):
    """The model with other sizes of the decoder and, if given, of the encoder."""
    return dataclasses.replace(
        BASE,
        text=dataclasses.replace(BASE.text, sliding_layers=(), **text),
        vision=dataclasses.replace(BASE.vision, **(vision or {})),
        image_token_id=text.get("vocab_size", 2000) - 10,
    )


LARGEST = {
    "attention": BASE,
    "MLP": varied(intermediate_size=12_000, num_layers=1),
    "projections": varied(num_heads=16, num_kv_heads=16, hidden_size=64, intermediate_size=64, head_dim=128),
    "encoder": varied(
        {"hidden_size": 576, "intermediate_size": 4304}, hidden_size=64, num_heads=1, num_kv_heads=1
    ),
    "output": varied({"image_size": 56}, vocab_size=300_000, hidden_size=64, intermediate_size=128),
    "cache": varied(num_layers=40, num_kv_heads=4, hidden_size=64, intermediate_size=64),
}
"""Models by what is largest in them."""


def prompts(config, batch, pictures, padding=0):
    """Prompts about so many different pictures each; the first is shorter by the padding."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(3, 900, (batch, 6 + padding), generator=generator)
    ids = torch.cat(
        (torch.full((batch, pictures * config.num_image_tokens), config.image_token_id), text), dim=1
    )
    is_valid = torch.ones_like(ids, dtype=torch.bool)
    if padding:
        is_valid[0, :padding] = False
        ids[0] = torch.cat((ids[0, -padding:], ids[0, :-padding]))
    size = config.vision.image_size
    return ModelInputs(
        token_ids=ids,
        pixel_values=torch.rand(batch * pictures, 3, size, size, generator=generator) * 2 - 1,
        image_index=torch.arange(batch * pictures),
        layout=PrefixLayout.from_flags(is_valid, is_valid),
        loss_weights=None,
        ids=("",) * batch,
    )


def peak(work):
    """The most bytes of tensors that the work had at once, by the allocator's own book."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def taken_and_stated(model, inputs, **settings):
    """Bytes that an answer of three tokens takes above the weights and the pictures, and those stated."""
    batch, prompt_tokens = inputs.token_ids.shape
    plan = inference_memory(
        model.config,
        batch=batch,
        images=len(inputs.pixel_values),
        prompt_tokens=prompt_tokens,
        max_new_tokens=3,
        dtype=model.dtype,
        **settings,
    )
    taken = peak(lambda: list(decode(model, inputs, Decoding(max_new_tokens=3))))
    assert plan.weights == stored_bytes(model)
    return taken, plan.kv_cache + plan.activations - inputs.pixel_values.nbytes


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("batch", "pictures", "padding"), [(1, 3, 0), (2, 1, 0), (2, 3, 20)])
def test_what_is_stated_is_what_is_taken(name, dtype, batch, pictures, padding):
    inputs = prompts(LARGEST[name], batch, pictures, padding)
    model = random_model(LARGEST[name]).to(dtype)
    taken, stated = taken_and_stated(model, inputs, is_padded=padding > 0)
    assert 0.85 < taken / stated < 1.1


def test_long_padded_prompts_take_more_for_masks_than_for_attention():
    config = varied(hidden_size=64, intermediate_size=64, num_layers=1, num_heads=1, num_kv_heads=1)
    model, inputs = random_model(config), prompts(config, 2, 12, padding=20)
    taken, stated = taken_and_stated(model, inputs, is_padded=True)
    assert 0.85 < taken / stated < 1.1
    _, without_masks = taken_and_stated(model, inputs)
    assert without_masks < 0.7 * stated


@pytest.mark.parametrize(
    "name", sorted(LARGEST.keys() - {"output"})
)  # of which no less than four rows are computed
def test_packed_weights_take_no_more(name):
    if not has_packed_kernels(torch.float32):
        pytest.skip("this PyTorch does not pack weights")
    model = random_model(LARGEST[name]).to(torch.float32)
    refill(model, packed_form(torch.float32), table=EMBEDDING)
    taken, stated = taken_and_stated(model, prompts(LARGEST[name], 1, 3))
    assert 0.85 < taken / stated < 1.1


def plan_of_3b(size, images, prompt_tokens, **settings) -> MemoryPlan:
    config = preset(f"paligemma2-3b-pt-{size}")
    wanted = {"batch": 1, "images": images, "prompt_tokens": prompt_tokens, "max_new_tokens": 64}
    return inference_memory(config, **wanted, **({"dtype": torch.bfloat16} | settings))


def test_sixteen_frames_take_what_one_picture_of_896_pixels_takes():
    frames, picture = plan_of_3b(224, 16, 4104), plan_of_3b(896, 1, 4104)
    assert frames.kv_cache == picture.kv_cache == 26 * 2 * 4 * 256 * 2 * (4104 + 64)
    assert frames.activations == picture.activations
    # The encoder has more positions.
    assert picture.weights - frames.weights == (4096 - 256) * 1152 * 2
    assert picture.total == picture.weights + picture.kv_cache + picture.activations


def test_a_long_prompt_takes_a_bounded_share_for_attention():
    one, two = plan_of_3b(224, 16, 4104), plan_of_3b(224, 2, 520)
    assert one.activations < 1e9
    assert two.activations < one.activations / 4
    assert one.weights == two.weights


def test_weights_may_be_kept_in_fewer_bytes():
    wide = plan_of_3b(224, 1, 264, dtype=torch.float32)
    packed = plan_of_3b(224, 1, 264, dtype=torch.float32, weights=wide.weights // 4)
    assert wide.weights - packed.weights == wide.weights * 3 // 4
    assert (packed.kv_cache, packed.activations) == (wide.kv_cache, wide.activations)


def test_only_padded_prompts_have_masks():
    plain, padded = plan_of_3b(224, 16, 4104), plan_of_3b(224, 16, 4104, is_padded=True)
    windows = len({preset("paligemma2-3b-pt-224").text.window_of_layer(layer) for layer in (0, 1)})
    assert padded.activations - plain.activations == windows * 4104**2
