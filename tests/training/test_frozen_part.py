from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from paligemma2.errors import ConfigError
from paligemma2.training.checkpointing import load_newest_state
from paligemma2.training.frozen_part import frozen_digest
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.sharding import shard
from tests.several_processes import in_processes
from tests.training.small_model import small_model
from tests.training.toy_run import Stopped, Toy, assert_equal_weights, run


def half_frozen() -> Toy:
    toy = Toy()
    toy.block.requires_grad_(False)
    return toy


def shared_digest() -> str:
    model, mesh = small_model(), init_device_mesh("cpu", (2,))
    model.vision_tower.requires_grad_(False)
    objective = SuffixObjective(model)
    shard(model, objective, objective.weight_of, mesh)
    return frozen_digest(model)


def test_where_everything_is_trained_there_is_no_digest() -> None:
    assert frozen_digest(Toy()) == ""


def test_what_is_trained_does_not_matter_and_what_is_frozen_does() -> None:
    toy = half_frozen()
    before = frozen_digest(toy)
    assert len(before) == 64
    with torch.no_grad():
        toy.head.weight.add_(1.0)
    assert frozen_digest(toy) == before
    with torch.no_grad():
        toy.block.layers[1].weight.mul_(1.02)  # type: ignore[index, operator, union-attr]
    assert frozen_digest(toy) != before


def test_another_part_is_another_one_even_with_the_same_weights() -> None:
    other = half_frozen()
    other.norm.requires_grad_(False)
    assert frozen_digest(half_frozen()) == frozen_digest(half_frozen()) != frozen_digest(other)


def test_bfloat16_weights_are_those_that_they_were_rounded_from() -> None:
    assert frozen_digest(half_frozen().to(torch.bfloat16)) == frozen_digest(half_frozen())


def test_a_weight_of_another_shape_is_another_one() -> None:
    a, b = nn.Linear(4, 2).requires_grad_(False), nn.Linear(4, 3).requires_grad_(False)
    for module in (a, b):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    assert frozen_digest(a) != frozen_digest(b)


def test_a_state_holds_what_is_trained_alone(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, toy=half_frozen(), crash_after=9)
    state = load_newest_state(tmp_path)
    assert state is not None
    assert {name.split(".")[0] for name in state.tensors} == {"module", "average", "optimizer"}
    assert not any("block." in name for name in state.tensors)
    resumed, _ = run(tmp_path, toy=half_frozen())
    whole, _ = run(None, toy=half_frozen())
    assert_equal_weights(resumed, whole)


def test_another_frozen_part_does_not_go_on(tmp_path: Path) -> None:
    toy, _ = run(tmp_path, toy=half_frozen())
    with torch.no_grad():
        toy.block.layers[0].weight.mul_(2.0)  # type: ignore[index, operator, union-attr]
    with pytest.raises(ConfigError, match="another frozen part"):
        run(tmp_path, toy=toy)


def test_processes_that_share_a_model_find_what_one_finds(tmp_path: Path) -> None:
    model = small_model()
    model.vision_tower.requires_grad_(False)
    assert in_processes(shared_digest, 2, tmp_path / "processes") == [frozen_digest(model)] * 2
