import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from paligemma2.errors import InputError
from paligemma2.model.config import ModelConfig, preset
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.parallel import check_processes, own_share, parallelize, sharing_plan
from paligemma2.model.prefix_mask import PrefixLayout
from tests.model.conftest import SMALL, fill
from tests.several_processes import in_processes

STEPS = 8
PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
EVEN = SMALL
# An odd number of rows and, in the image encoder, of heads and columns: the encoder is whole in each process.
UNEVEN = dataclasses.replace(
    SMALL,
    vision=dataclasses.replace(SMALL.vision, num_heads=3, intermediate_size=41),
    text=dataclasses.replace(SMALL.text, vocab_size=161),
)
CONFIGS = (EVEN, UNEVEN)


def model_of(config: ModelConfig) -> PaliGemma2Model:
    model = PaliGemma2Model(config).eval()
    fill(model, seed=0)
    return model


@torch.inference_mode()
def run(model: PaliGemma2Model) -> dict[str, Any]:
    """The logits of two prompts and of 8 more tokens of each, the tokens, and the shape of the cache."""
    pixel_values = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(5)) * 2 - 1
    ids = torch.tensor([[0, *[150] * 4, 2, 7, 9], [*[150] * 4, 2, 11, 12, 13]])
    layout = PrefixLayout.from_flags(ids != 0, ids != 0)
    logits, cache = model.prefill(ids, model.encode_images(pixel_values), layout, STEPS)
    rows, tokens = [logits], [logits[:, :150].argmax(dim=-1)]
    for _ in range(STEPS):
        rows.append(model.step(tokens[-1], cache))
        tokens.append(rows[-1][:, :150].argmax(dim=-1))
    return {"logits": torch.stack(rows), "tokens": torch.stack(tokens), "cache": tuple(cache.keys.shape)}


def run_shared(config: ModelConfig) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    weights = model_of(config).state_dict()
    with torch.device("meta"):
        model = PaliGemma2Model(config).eval()
    parallelize(model, mesh)
    parameters = dict(model.named_parameters())
    shares = {
        name: own_share(tensor, parameters[name], torch.device("cpu"), torch.float32)
        for name, tensor in weights.items()
    }
    model.load_state_dict(shares, assign=True)
    local = {
        name: share.to_local() if isinstance(share, DTensor) else share for name, share in shares.items()
    }
    return run(model) | {
        "count": sum(share.numel() for share in local.values()),
        "bytes": sum(share.untyped_storage().nbytes() for share in local.values()),
    }


def work() -> list[dict[str, Any]]:
    with torch.no_grad():
        return [run_shared(config) for config in CONFIGS]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """For each of two processes what `run_shared` gives for each configuration."""
    return in_processes(work, 2, tmp_path_factory.mktemp("two") / "processes")


def share_of(config: ModelConfig, processes: int, rank: int = 0) -> int:
    """How many numbers the plan leaves a process."""
    plan = sharing_plan(config, processes)
    with torch.device("meta"):
        parameters = dict(PaliGemma2Model(config).named_parameters())
    count = 0
    for name, parameter in parameters.items():
        module, _, kind = name.rpartition(".")
        if module.endswith("embed_tokens"):
            count += parameter.chunk(processes)[rank].numel()
        elif module in plan and (kind == "weight" or plan[module] == "outputs"):
            count += parameter.numel() // processes
        else:
            count += parameter.numel()
    return count


@pytest.mark.parametrize("index", [0, 1], ids=["even", "uneven"])
def test_two_processes_give_the_logits_and_tokens_of_one(
    shared: list[list[dict[str, Any]]], index: int
) -> None:
    alone = run(model_of(CONFIGS[index]))
    assert len(set(alone["tokens"][:, 0].tolist())) > 2  # a model that repeats itself would prove little
    for results in shared:
        torch.testing.assert_close(results[index]["logits"], alone["logits"], atol=2e-5, rtol=0)
        assert torch.equal(results[index]["tokens"], alone["tokens"])


@pytest.mark.parametrize("index", [0, 1], ids=["even", "uneven"])
def test_all_processes_have_the_same_logits_to_the_last_bit(
    shared: list[list[dict[str, Any]]], index: int
) -> None:
    first, second = (results[index]["logits"] for results in shared)
    assert torch.equal(first, second)


def test_each_process_holds_the_keys_and_values_of_its_own_heads(shared: list[list[dict[str, Any]]]) -> None:
    layers, rows, kv_heads, capacity, head_dim = run(model_of(EVEN))["cache"]
    for results in shared:
        assert results[0]["cache"] == (layers, rows, kv_heads // 2, capacity, head_dim)


@pytest.mark.parametrize("index", [0, 1], ids=["even", "uneven"])
def test_each_process_keeps_its_share_of_the_weights_and_no_more(
    shared: list[list[dict[str, Any]]], index: int
) -> None:
    for rank, results in enumerate(shared):
        assert results[index]["count"] == share_of(CONFIGS[index], 2, rank)
        assert results[index]["bytes"] == 4 * results[index]["count"]


def test_the_share_of_a_large_model_is_its_part_but_for_a_thousandth() -> None:
    config = preset("paligemma2-28b-pt-224")
    for processes in (2, 4, 8, 16):
        assert share_of(config, 1) / processes < share_of(config, processes)
        assert share_of(config, processes) < share_of(config, 1) * (1 / processes + 0.001)


@pytest.mark.parametrize(
    ("text", "processes", "message", "hint"),
    [
        ({}, 3, "2 key-value heads cannot be shared out evenly over 3", "processes: 1, 2"),
        (
            {"num_kv_heads": 4},
            3,
            "4 key-value heads cannot be shared out evenly over 3",
            "processes: 1, 2, 4",
        ),
        ({"num_kv_heads": 4, "intermediate_size": 42}, 4, "42 columns of the MLP", "processes: 1, 2"),
    ],
)
def test_a_decoder_that_does_not_divide_is_refused_with_the_numbers_that_do(
    text: dict[str, int], processes: int, message: str, hint: str
) -> None:
    config = dataclasses.replace(SMALL, text=dataclasses.replace(SMALL.text, **text))
    with pytest.raises(InputError, match=message) as raised:
        check_processes(config, processes)
    assert raised.value.hint.endswith(hint)


@pytest.mark.parametrize("size", ["3b", "10b", "28b"])
def test_every_released_decoder_can_be_shared_by_two_and_four(size: str) -> None:
    for processes in (1, 2, 4):
        check_processes(preset(f"paligemma2-{size}-pt-448"), processes)


def memory_table() -> str:
    config = preset("paligemma2-28b-pt-224")
    text, counts = config.text, (1, 2, 4)
    weights = [share_of(config, count) * 2 for count in counts]
    token = text.num_layers * 2 * text.num_kv_heads * text.head_dim * 2
    lines = [
        "| 28B at 224 px, in bfloat16 | 1 GPU | each of 2 | each of 4 |",
        "| --- | ---: | ---: | ---: |",
        "| weights, GB | " + " | ".join(f"{size / 1e9:.1f}" for size in weights) + " |",
        "| keys and values of a row of 1024 tokens, GB | "
        + " | ".join(f"{1024 * token / count / 1e9:.2f}" for count in counts)
        + " |",
    ]
    return "\n".join(lines)


def test_the_memory_on_the_page_is_that_of_the_plan() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.split("<!-- shares -->")[1].strip() == memory_table()
    text = preset("paligemma2-28b-pt-224").text
    largest = max(text.vocab_size, text.intermediate_size) * text.hidden_size * 2
    assert f"one whole tensor besides, at most {largest / 1e9:.1f} GB" in page


def test_a_share_keeps_its_number_format_and_place() -> None:
    whole = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    kept: Tensor = own_share(whole.data, whole, torch.device("cpu"), torch.bfloat16)
    assert kept.dtype == torch.bfloat16
    assert torch.equal(kept.float(), whole)
