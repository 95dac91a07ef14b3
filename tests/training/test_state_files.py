import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from paligemma2.errors import ConfigError
from paligemma2.training.state_files import Rows, StateTensors, describe, own_pieces, own_rows
from paligemma2.training.team import Team
from tests.several_processes import in_processes

MATRIX = torch.arange(21.0).reshape(7, 3)


def write(
    folder: Path, parts: Mapping[str, Mapping[str, Tensor]], rows: Mapping[str, Mapping[str, Rows]]
) -> Any:
    for file, tensors in parts.items():
        save_file(dict(tensors), folder / file)
    whole = {"matrix": MATRIX, "number": torch.tensor(3.0), "codes": torch.tensor([1, 2], dtype=torch.uint8)}
    return describe(whole, list(rows.items()))


def in_two_files(folder: Path) -> Any:
    """The rows 0 to 4 in one file, 4 to 7 in the other; what is not shared out in the first."""
    others = {"number": torch.tensor(3.0), "codes": torch.tensor([1, 2], dtype=torch.uint8)}
    return write(
        folder,
        {"a": {"matrix": MATRIX[:4].clone(), **others}, "b": {"matrix": MATRIX[4:].clone()}},
        {
            "a": {"matrix": Rows(0, 4), "number": Rows(0, 1), "codes": Rows(0, 2)},
            "b": {"matrix": Rows(4, 7)},
        },
    )


def test_tensors_come_back_whole_from_several_files(tmp_path: Path) -> None:
    tensors = StateTensors(tmp_path, in_two_files(tmp_path))
    assert list(tensors) == ["matrix", "number", "codes"]
    assert len(tensors) == 3
    assert torch.equal(tensors["matrix"], MATRIX)
    assert torch.equal(tensors["number"], torch.tensor(3.0))
    assert torch.equal(tensors["codes"], torch.tensor([1, 2], dtype=torch.uint8))
    assert tensors.shapes == {"matrix": (7, 3), "number": (), "codes": (2,)}


def test_a_tensor_is_overwritten_in_its_own_dtype(tmp_path: Path) -> None:
    tensors = StateTensors(tmp_path, in_two_files(tmp_path))
    parameter = torch.nn.Parameter(torch.zeros(7, 3, dtype=torch.bfloat16))
    tensors.copy_to("matrix", parameter)
    assert torch.equal(parameter, MATRIX.bfloat16())
    number = torch.zeros(())
    tensors.copy_to("number", number)
    assert number == 3


def test_a_state_of_an_optimiser_is_like_its_parameter_or_as_it_was_stored(tmp_path: Path) -> None:
    tensors = StateTensors(tmp_path, in_two_files(tmp_path))
    parameter = torch.nn.Parameter(torch.zeros(7, 3, dtype=torch.bfloat16))
    state = tensors.like("matrix", parameter)
    assert torch.equal(state, MATRIX)
    assert (state.dtype, state.requires_grad) == (torch.float32, False)
    assert torch.equal(tensors.like("number", parameter), torch.tensor(3.0))
    assert torch.equal(tensors.like("codes", parameter), torch.tensor([1, 2], dtype=torch.uint8))


@pytest.mark.parametrize("gap", ["first", "last", "all", "between"])
def test_rows_that_are_not_stored_are_found_before_any_is_read(tmp_path: Path, gap: str) -> None:
    entries = in_two_files(tmp_path)
    pieces = entries["matrix"]["pieces"]
    if gap == "between":
        pieces[1]["rows"] = [5, 7]
    else:
        entries["matrix"]["pieces"] = {"first": pieces[1:], "last": pieces[:1], "all": []}[gap]
    with pytest.raises(ValueError, match=re.escape("the rows of matrix are not all stored")):
        StateTensors(tmp_path, entries)


def read_in_two(folder: Path) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2,))
    own = folder / str(mesh.get_local_rank())
    own.mkdir()
    tensors = StateTensors(own, in_two_files(own))
    shared = distribute_tensor(torch.zeros(7, 3), mesh, [Shard(0)])
    tiny = distribute_tensor(torch.ones(1, 3), mesh, [Shard(0)])
    tensors.copy_to("matrix", shared)
    team = Team(rank=mesh.get_local_rank(), size=2)
    pieces = own_pieces({"shared": shared, "tiny": tiny, "plain": torch.zeros(2)}, team)
    with pytest.raises(ConfigError, match="shared out as"):
        own_rows(distribute_tensor(torch.zeros(4, 4), mesh, [Shard(1)]))
    with pytest.raises(ConfigError, match="shared out as"):
        own_rows(distribute_tensor(torch.zeros(4, 4), mesh, [Replicate()]))
    return {
        "whole": shared.full_tensor(),
        "like": tensors.like("matrix", shared).to_local(),  # type: ignore[attr-defined]
        "rows": {name: rows for name, (_, rows) in pieces.items()},
    }


def test_each_process_reads_and_writes_its_own_rows(tmp_path: Path) -> None:
    first, second = in_processes(read_in_two, 2, tmp_path / "processes", tmp_path)
    assert torch.equal(first["whole"], MATRIX)
    assert torch.equal(first["like"], MATRIX[:4])
    assert torch.equal(second["like"], MATRIX[4:])
    assert first["rows"] == {"shared": Rows(0, 4), "tiny": Rows(0, 1), "plain": Rows(0, 2)}
    assert second["rows"] == {"shared": Rows(4, 7)}
