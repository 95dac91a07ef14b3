import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.jobs.evaluate_team import join_team, share_of
from paligemma2.training.team import ALONE, Team
from tests.several_processes import in_processes


def test_a_process_by_itself_keeps_its_device():
    assert join_team("auto") == (ALONE, "auto")
    assert join_team("cuda:3") == (ALONE, "cuda:3")


def test_shares_are_neighbours_and_nothing_is_left_out():
    for count in (0, 1, 7, 12):
        teams = [Team(rank=rank, size=3) for rank in range(3)]
        shares = [list(range(count))[share_of(count, team)] for team in teams]
        assert [each for share in shares for each in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def joined(device):
    team, own = join_team(device)
    return team.rank, team.size, own, team.run(lambda: team.rank * 10)


def refused(device):
    with pytest.raises(InputError, match="no device 'cuda:7' of its own"):
        join_team(device)


def test_processes_know_each_other(tmp_path):
    assert in_processes(joined, 2, tmp_path / "two", "cpu") == [
        (0, 2, "cpu", [0, 10]),
        (1, 2, "cpu", [0, 10]),
    ]
    in_processes(refused, 2, tmp_path / "wrong", "cuda:7")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_first_process_takes_the_first_gpu(tmp_path):
    assert in_processes(joined, 1, tmp_path / "one", "auto") == [(0, 1, "cuda:0", [0])]
