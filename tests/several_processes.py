"""Running a function in several processes that talk through gloo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_processes(function: Callable[..., Any], count: int, folder: Path, *arguments: Any) -> list[Any]:
    """What `function(*arguments)`, of a module, gives in each of `count` processes, in their order."""
    folder.mkdir(parents=True)
    mp.spawn(_work, (function, count, folder, arguments), nprocs=count)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _work(
    rank: int, function: Callable[..., Any], count: int, folder: Path, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    rendezvous = (folder / "rendezvous").as_uri()
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=count)
    torch.save(function(*arguments), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
