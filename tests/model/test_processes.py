import os

import pytest
import torch
import torch.distributed as dist

from paligemma2.errors import InputError
from paligemma2.model.processes import join_processes, started_with_others


def test_a_process_alone_is_told_how_to_start_several():
    assert not started_with_others()
    with pytest.raises(InputError, match="sharding needs several processes") as raised:
        join_processes("cpu", purpose="sharding")
    assert "torchrun --nproc-per-node 2" in raised.value.hint


def test_processes_are_joined_as_torchrun_names_them(monkeypatch, tmp_path):
    """One process is the smallest number that `torchrun` starts."""
    assert "RANK" not in os.environ
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    assert started_with_others()
    try:
        mesh, device = join_processes("cpu")
        assert mesh.size() == 1
        assert device == torch.device("cpu")
        assert dist.get_backend() == "gloo"
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU for the process")
def test_a_process_without_a_gpu_is_refused(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match="process 1 of this machine has no GPU of its own: there are 0"
    ) as raised:
        join_processes("cuda")
    assert raised.value.hint == "use device cpu"
