import dataclasses

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from paligemma2.inference.decoding import decode
from paligemma2.jobs.bench import random_model
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig, preset
from paligemma2.model.memory import MemoryPlan, inference_memory
from paligemma2.model.prefix_mask import PrefixLayout
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


def prompts(config, batch, pictures):
    """Prompts about so many different pictures each."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(3, 900, (batch, 6), generator=generator)
    ids = torch.cat(
        (torch.full((batch, pictures * config.num_image_tokens), config.image_token_id), text), dim=1
    )
    everything = torch.ones_like(ids, dtype=torch.bool)
    size = config.vision.image_size
    return ModelInputs(
        token_ids=ids,
        pixel_values=torch.rand(batch * pictures, 3, size, size, generator=generator) * 2 - 1,
        image_index=torch.arange(batch * pictures),
        layout=PrefixLayout.from_flags(everything, everything),
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


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("batch", "pictures"), [(1, 3), (2, 1)])
def test_what_is_stated_is_what_is_taken(name, dtype, batch, pictures):
    config = LARGEST[name]
    model, inputs = random_model(config).to(dtype), prompts(config, batch, pictures)
    plan = inference_memory(
        config,
        batch=batch,
        images=batch * pictures,
        prompt_tokens=inputs.token_ids.shape[1],
        max_new_tokens=3,
        dtype=dtype,
    )
    taken = peak(lambda: list(decode(model, inputs, Decoding(max_new_tokens=3))))
    assert plan.weights == sum(each.nbytes for each in model.parameters())
    stated = plan.kv_cache + plan.activations - inputs.pixel_values.nbytes  # which were there before
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


def test_weights_may_be_kept_in_another_dtype():
    wide = plan_of_3b(224, 1, 264, dtype=torch.float32)
    packed = plan_of_3b(224, 1, 264, dtype=torch.float32, weight_dtype=torch.bfloat16)
    assert wide.weights == 2 * packed.weights
    assert wide.kv_cache == packed.kv_cache
