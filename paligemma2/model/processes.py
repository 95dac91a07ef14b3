"""The processes that share one model, as `torchrun` starts them, and the device of each."""

import os
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from paligemma2.errors import InputError

_COMMAND = "torchrun --nproc-per-node 2"
_VARIABLES = {"RANK", "WORLD_SIZE", "LOCAL_RANK"}
_BACKENDS = {"cuda": "nccl", "cpu": "gloo"}


class Processes(NamedTuple):
    """All processes in a row, and the device of this one."""

    mesh: DeviceMesh
    device: torch.device


def started_with_others() -> bool:
    """Whether `torchrun` started this process, or it has joined others already."""
    return dist.is_available() and (dist.is_initialized() or set(os.environ) >= _VARIABLES)


def join_processes(device: str, purpose: str = "tensor_parallel") -> Processes:
    """Wait for the other processes of `torchrun` and take this one's GPU, or the CPU.

    A process group that is there already is used.

    Args:
        device: "cuda", "cpu", or "auto" for CUDA if there is any.
        purpose: what wants several processes, for the error message.

    Raises:
        InputError: there are no processes to join, or no device for this one.
    """
    if not dist.is_available():
        raise InputError("this build of PyTorch has no torch.distributed", hint=f"go without {purpose}")
    if not started_with_others():
        raise InputError(
            f"{purpose} needs several processes, and this one runs alone",
            hint=f"start it as `{_COMMAND} SCRIPT` or `{_COMMAND} -m paligemma2 …`",
        )
    kind = _kind_of(device)
    own = _own_device(kind)
    if not dist.is_initialized():
        dist.init_process_group(_BACKENDS[kind], device_id=own if kind == "cuda" else None)
    return Processes(init_device_mesh(kind, (dist.get_world_size(),)), own)


def _kind_of(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in _BACKENDS:
        raise InputError(
            f"device {device!r} cannot be shared by processes",
            hint="use auto, cuda or cpu; each process takes the GPU of its own number",
        )
    return device


def _own_device(kind: str) -> torch.device:
    if kind == "cpu":
        return torch.device("cpu")
    number = int(os.environ["LOCAL_RANK"]) if "LOCAL_RANK" in os.environ else dist.get_rank()
    count = torch.cuda.device_count()
    if number >= count:
        raise InputError(
            f"process {number} of this machine has no GPU of its own: there are {count}",
            hint=f"start {count} processes or fewer" if count else "use device cpu",
        )
    own = torch.device("cuda", number)
    torch.cuda.set_device(own)
    return own
