import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from paligemma2.errors import InputError, WorkError
from paligemma2.training.team import Team, team_of
from tests.several_processes import in_processes


def fail_in(rank: int, team: Team) -> int:
    if team.rank == rank:
        raise InputError(f"bad value in {rank}", hint="give another")
    return team.rank


def work(_: Path) -> dict[str, object]:
    mesh = init_device_mesh("cpu", (2,))
    team = team_of([torch.zeros(2), distribute_tensor(torch.zeros(4), mesh, [Shard(0)])])
    with pytest.raises((InputError, WorkError)) as raised:
        team.run(lambda: fail_in(1, team))
    return {
        "rank": (team.rank, dist.get_rank(), team.size, team.is_first),
        "largest": team.largest(15 * team.rank),
        "results": team.run(lambda: {"process": os.getpid(), "rank": team.rank}),
        "raised": (type(raised.value).__name__, str(raised.value)),
        "told": team.told(lambda: team.rank + 7),
        "after": team.run(lambda: fail_in(-1, team)),
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("team")
    return in_processes(work, 2, folder / "processes", folder)


def test_a_process_alone_is_a_team() -> None:
    team = team_of([torch.zeros(2)])
    assert (team.rank, team.size, team.is_first) == (0, 1, True)
    assert team.largest(15) == 15
    assert team.run(lambda: "done") == ["done"]
    assert team.told(lambda: "done") == "done"
    with pytest.raises(InputError, match="bad value in 0"):
        team.run(lambda: fail_in(0, team))


def test_a_tensor_that_is_shared_out_tells_who_is_there(pair: list[dict[str, object]]) -> None:
    assert [each["rank"] for each in pair] == [(0, 0, 2, True), (1, 1, 2, False)]


def test_all_learn_the_largest_number_and_the_results_of_all(pair: list[dict[str, object]]) -> None:
    assert [each["largest"] for each in pair] == [15, 15]
    assert pair[0]["results"] == pair[1]["results"]
    assert [each["rank"] for each in pair[0]["results"]] == [0, 1]  # type: ignore[attr-defined]


def test_all_are_told_what_the_first_found(pair: list[dict[str, object]]) -> None:
    assert [each["told"] for each in pair] == [7, 7]


def test_the_error_of_one_process_is_one_of_all_and_they_can_go_on(pair: list[dict[str, object]]) -> None:
    assert pair[1]["raised"] == ("InputError", "bad value in 1 (give another)")
    assert pair[0]["raised"] == ("WorkError", "process 1 failed: bad value in 1 (give another)")
    assert [each["after"] for each in pair] == [[0, 1], [0, 1]]
