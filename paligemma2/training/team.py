"""The processes that train one model together: who speaks, and what they must agree on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from paligemma2.errors import PaliGemmaError, WorkError

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Team:
    """The processes among which the tensors of a run are shared out; one process by default.

    Attributes:
        rank: number of this process.
        size: how many there are.
        group: through which they talk; None for a process alone.
        device: of what this process sends and receives.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None
    device: torch.device | None = None

    @classmethod
    def on(cls, mesh: DeviceMesh, device: torch.device) -> "Team":
        """The processes of a mesh of one dimension; `device` is that of this process."""
        return cls(rank=mesh.get_local_rank(), size=mesh.size(), group=mesh.get_group(), device=device)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the log, prints, and speaks for all."""
        return self.rank == 0

    def largest(self, number: int) -> int:
        """The largest of the numbers of all processes, the same in all of them."""
        if self.group is None:
            return number
        largest = torch.tensor(number, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX, self.group)
        return int(largest)

    def told(self, work: Callable[[], _T]) -> _T:
        """What `work` gives in the first process, which alone does it; in all of them.

        Args:
            work: gives what `run` may give.

        Raises:
            PaliGemmaError: it failed; in the other processes a WorkError.
        """
        result: _T | None = self.run(lambda: work() if self.is_first else None)[0]
        return result  # type: ignore[return-value]

    def run(self, work: Callable[[], _T]) -> list[_T]:
        """Do `work` in every process; none goes on before all are done.

        Returns:
            What each process made of it, in their order: text, numbers, and lists and dicts of them.

        Raises:
            PaliGemmaError: whatever this process raised; or a WorkError if another one failed.
        """
        if self.group is None:
            return [work()]
        own: PaliGemmaError | None = None
        result: Any = None
        try:
            result = work()
        except PaliGemmaError as error:
            own = error
        outcomes: list[tuple[_T, str]] = [(result, "")] * self.size
        dist.all_gather_object(outcomes, (result, str(own or "")), self.group)
        if own is not None:
            raise own
        for rank, (_, failure) in enumerate(outcomes):
            if failure:
                raise WorkError(f"process {rank} failed: {failure}")
        return [each for each, _ in outcomes]


ALONE = Team()
"""A process that trains by itself."""


def team_of(tensors: Iterable[Tensor]) -> Team:
    """The processes among which these tensors are shared out."""
    for tensor in tensors:
        if isinstance(tensor, DTensor):
            return Team.on(tensor.device_mesh, tensor.device)
    return ALONE
