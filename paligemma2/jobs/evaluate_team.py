"""The processes that share the examples of an evaluation: each has a whole model, on a GPU of its own."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from paligemma2.errors import InputError
from paligemma2.model.processes import started_with_others
from paligemma2.training.team import ALONE, Team

_WAIT = timedelta(days=7)  # for the slowest process, whatever its share takes


def join_team(device: str) -> tuple[Team, str]:
    """The processes of `torchrun`, and the device of this one; a process by itself is a team of one.

    They send each other short messages only, through gloo, whatever the models run on.

    Args:
        device: "auto", "cpu" or "cuda"; for a process by itself also any other.

    Raises:
        InputError: this process has no GPU of its own.
    """
    if not started_with_others():
        return ALONE, device
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_WAIT)
    team = Team(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        group=dist.group.WORLD,
        device=torch.device("cpu"),
    )
    return team, _own_device(device, team)


def share_of(count: int, team: Team) -> slice:
    """Which of `count` examples in a row are those of this process; neighbours, which share pictures."""
    return slice(count * team.rank // team.size, count * (team.rank + 1) // team.size)


def _own_device(device: str, team: Team) -> str:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    number, count = int(os.environ.get("LOCAL_RANK", team.rank)), torch.cuda.device_count()
    if device not in ("auto", "cuda") or number >= count:
        raise InputError(
            f"process {number} of this machine has no device {device!r} of its own: there are {count} GPUs",
            hint="start as many processes as there are GPUs, or use device cpu",
        )
    return f"cuda:{number}"
