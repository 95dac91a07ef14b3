import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from paligemma2.checkpoint.load import load_model
from paligemma2.errors import CheckpointError, ConfigError, InputError, WorkError
from paligemma2.model.lora import base_parameters
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.best_weights import keep_best, restore_best
from paligemma2.training.checkpointing import load_newest_state
from paligemma2.training.image_cache import ImageCache
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.sharding import fill_shards, save_shared_model, shard, whole
from paligemma2.training.trainer import Progress, Trainer
from tests.several_processes import in_processes
from tests.training.shared_run import adapted_model, mesh_of_all, recipe, recomputing_model, run
from tests.training.small_model import SMALL, small_model
from tests.training.test_checkpointing import largest_file

SCRIPT = Path(__file__).with_name("shared_run.py")
EXACT = 1e-6
"""Relative. Sums over examples are added up in another order: some units in the last place of float32."""
ROUNDED = 3e-3
"""Relative. Weights that come together as bfloat16 have eight bits; six steps of training carry them on."""
VARIANTS: dict[str, dict[str, Any]] = {
    "example": {},
    "token": {"average": "token"},
    "adapter": {"make": adapted_model},
    "parts of a batch": {"parts": 2, "average": "token"},
    "recomputation": {"make": recomputing_model},
    "bfloat16": {"compute_dtype": torch.bfloat16},
    "adapter of a bfloat16 model": {
        "make": partial(adapted_model, torch.bfloat16),
        "compute_dtype": torch.bfloat16,
    },
}
TOLERANCES = {name: EXACT if "bfloat16" not in name else ROUNDED for name in VARIANTS}


def losses(lines: list[Progress]) -> list[float]:
    return [line.loss for line in lines]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole(parameter).clone() for name, parameter in model.named_parameters()}


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Adam divides a gradient by its own size: where it is next to nothing, its last places decide."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if "k_proj.bias" in name:  # the softmax cancels it, so that its gradient is rounding alone
            continue
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-4, msg=name)


def curves() -> dict[str, list[float]]:
    return {name: losses(run(None, **settings)[1]) for name, settings in VARIANTS.items()}


def failure(folder: Path, model: PaliGemma2Model, size: int | None = None) -> tuple[str, str]:
    """How saving fails in this process, where no file of the first may be larger than `size`."""
    try:
        if size is not None and dist.get_rank() == 0:
            with largest_file(size):
                save_shared_model(folder, model, SMALL)
        else:
            save_shared_model(folder, model, SMALL)
    except (InputError, WorkError) as error:
        return type(error).__name__, str(error)
    return "", ""


def filled() -> tuple[PaliGemma2Model, str]:
    """A model that was never whole in any process, and what is said of weights that do not come."""
    mesh = mesh_of_all()
    assert mesh is not None
    with torch.device("meta"):
        model = PaliGemma2Model(SMALL)
    shard(model, SuffixObjective(model), lambda batch: 1.0, mesh)
    weights = dict(small_model().named_parameters())
    with pytest.raises(CheckpointError) as raised:
        fill_shards(model, list(weights.items())[1:])
    fill_shards(model, weights.items())
    return model, str(raised.value)


def refused_cache(model: PaliGemma2Model) -> str:
    model.vision_tower.requires_grad_(False)
    objective, mesh = SuffixObjective(model, image_cache=ImageCache(1000)), mesh_of_all()
    assert mesh is not None
    with pytest.raises(ConfigError) as raised:
        shard(model, objective, objective.weight_of, mesh)
    return str(raised.value)


def draws() -> list[float]:
    """What dropout draws from, in two steps."""
    model, mesh, found = small_model(), mesh_of_all(), list[float]()

    def loss(batch: int) -> Tensor:
        found.append(torch.rand(()).item())
        return model.multi_modal_projector.linear.bias.sum()

    objective = loss if mesh is None else shard(model, loss, lambda batch: 1.0, mesh)
    Trainer(model, recipe(steps=2), objective).fit(lambda start, stop: iter(range(start, stop)))
    return found


def kept_and_restored(model: PaliGemma2Model, folder: Path) -> tuple[bool, dict[str, Tensor]]:
    """The best weights of a shared model, after others have taken their place in it."""
    keep_best(folder, model, step=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return restore_best(folder, model, step=3), weights_of(model)


def refused_muon(model: PaliGemma2Model) -> str:
    with pytest.raises(ConfigError) as raised:
        Trainer(model, recipe(optimizer="muon"), lambda batch: torch.tensor(0.0))
    return str(raised.value)


def work_in_two(folder: Path) -> dict[str, Any]:
    """Curves of all variants; a run stopped and gone on with, also from one process's state; its model."""
    results: dict[str, Any] = {"curves": curves()}
    run(folder / "stopped", stop_before=5)
    trainer, lines = run(folder / "whole")
    results |= {"lines": len(lines), "weights": weights_of(trainer.module)}
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.copytree(folder / "stopped", folder / "gone on")
    dist.barrier()
    resumed, _ = run(folder / "gone on")
    results["resumed"] = weights_of(resumed.module)
    from_one, lines = run(folder / "from one")
    results["poisoned"] = run(None, poison=(2, 1))[0].update.counters.as_values()
    results |= {"from one": weights_of(from_one.module), "losses from one": losses(lines)}
    model = from_one.module
    assert isinstance(model, PaliGemma2Model)
    results["held"] = sum(p.to_local().numel() for p in model.parameters())  # type: ignore[operator]
    results["saved"] = failure(folder / "model", model)
    results["taken"] = failure(folder / "model", model)
    results["full"] = failure(folder / "full", model, size=40_000)
    results["muon"] = refused_muon(model)
    results["cache"] = refused_cache(small_model())
    results["best"] = kept_and_restored(model, folder / "run")
    results["draws"] = draws()
    model, results["too few"] = filled()
    results["filled"] = weights_of(model)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def pair(folder: Path) -> list[dict[str, Any]]:
    run(folder / "from one", stop_before=5)
    return in_processes(work_in_two, 2, folder / "processes", folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_have_the_losses_of_one(pair: list[dict[str, Any]], variant: str) -> None:
    _, lines = run(None, **VARIANTS[variant])
    assert len(lines) == 6
    assert pair[0]["curves"][variant] == pytest.approx(losses(lines), rel=TOLERANCES[variant])


def test_two_processes_have_the_weights_of_one(pair: list[dict[str, Any]], tmp_path: Path) -> None:
    alone, _ = run(None)
    assert_near(pair[0]["weights"], weights_of(alone.module))
    for name, tensor in pair[0]["weights"].items():
        assert torch.equal(tensor, pair[1]["weights"][name]), name


def test_each_process_holds_half_of_the_model(pair: list[dict[str, Any]]) -> None:
    total = sum(parameter.numel() for parameter in small_model().parameters())
    assert sum(each["held"] for each in pair) == total
    assert pair[0]["held"] == pytest.approx(total / 2, rel=0.01)


def test_only_the_first_process_speaks_and_writes_the_log(pair: list[dict[str, Any]], folder: Path) -> None:
    assert [each["lines"] for each in pair] == [6, 0]
    assert len((folder / "whole" / "log.jsonl").read_text().splitlines()) == 6


def test_a_run_of_two_processes_goes_on_exactly(pair: list[dict[str, Any]]) -> None:
    for name, tensor in pair[0]["weights"].items():
        assert torch.equal(tensor, pair[0]["resumed"][name]), name


def test_two_processes_go_on_from_the_state_of_one(pair: list[dict[str, Any]]) -> None:
    alone, lines = run(None)
    assert pair[0]["losses from one"] == pytest.approx(losses(lines)[4:], rel=EXACT)
    assert_near(pair[0]["from one"], weights_of(alone.module))


def test_one_process_goes_on_from_the_state_of_two(pair: list[dict[str, Any]], folder: Path) -> None:
    state = load_newest_state(folder / "stopped")
    assert state is not None
    assert state.step == 4
    files = sorted(path.name for path in (folder / "stopped" / "step-0000004").iterdir())
    assert files == ["manifest.json", *(f"state-0000{i}-of-00002.safetensors" for i in (1, 2))]
    shutil.copytree(folder / "stopped", folder / "to one")
    resumed, lines = run(folder / "to one")
    alone, all_lines = run(None)
    assert losses(lines) == pytest.approx(losses(all_lines)[4:], rel=EXACT)
    assert_near(weights_of(resumed.module), weights_of(alone.module))


def test_the_states_of_one_and_of_two_hold_the_same_tensors(pair: list[dict[str, Any]], folder: Path) -> None:
    run(folder / "alone", stop_before=5)
    ours, theirs = load_newest_state(folder / "stopped"), load_newest_state(folder / "alone")
    assert ours is not None
    assert theirs is not None
    assert_near(dict(ours.tensors), dict(theirs.tensors))
    parts = {name.split(".")[0] for name in ours.tensors}
    assert parts == {"module", "average", "optimizer"}


def test_the_result_is_an_ordinary_folder(pair: list[dict[str, Any]], folder: Path) -> None:
    assert [each["saved"] for each in pair] == [("", "")] * 2
    loaded = load_model(folder / "model").model
    for name, parameter in base_parameters(loaded).items():
        assert torch.equal(parameter, pair[0]["from one"][name]), name


def test_an_error_of_the_first_process_ends_all(pair: list[dict[str, Any]], folder: Path) -> None:
    kind, message = pair[0]["taken"]
    assert (kind, "already exists" in message) == ("InputError", True)
    kind, message = pair[0]["full"]
    assert (kind, "could not be written" in message) == ("WorkError", True)
    for case in ("taken", "full"):
        assert pair[1][case] == ("WorkError", f"process 0 failed: {pair[0][case][1]}")
    assert not (folder / "full").exists()


def test_a_model_that_was_never_whole_gets_its_weights(pair: list[dict[str, Any]]) -> None:
    for name, parameter in small_model().named_parameters():
        assert torch.equal(parameter, pair[1]["filled"][name]), name
    assert "1 weights have no values (vision_tower." in pair[0]["too few"]


def test_a_loss_that_is_no_number_in_one_process_is_left_out_in_all(pair: list[dict[str, Any]]) -> None:
    alone, _ = run(None, poison=(2, 0))
    expected = alone.update.counters.as_values()
    assert expected["not_finite"] == 1
    for each in pair:
        assert each["poisoned"]["norms"] == pytest.approx(expected["norms"], rel=1e-5)
        assert each["poisoned"] | {"norms": 0} == expected | {"norms": 0}


def test_the_best_weights_come_back_to_all_processes(pair: list[dict[str, Any]], folder: Path) -> None:
    for each in pair:
        is_restored, weights = each["best"]
        assert is_restored
        for name, tensor in weights.items():
            assert torch.equal(tensor, pair[0]["from one"][name]), name
    alone = small_model()
    assert restore_best(folder / "run", alone, step=3)
    for name, parameter in alone.named_parameters():
        assert torch.equal(parameter, pair[0]["from one"][name]), name


def test_dropout_differs_between_processes_and_is_that_of_one_in_the_first(
    pair: list[dict[str, Any]],
) -> None:
    alone = draws()
    assert pair[0]["draws"] == alone
    assert len({*alone, *pair[1]["draws"]}) == 4


def test_muon_needs_whole_matrices(pair: list[dict[str, Any]]) -> None:
    assert "muon cannot train a model that is shared out" in pair[0]["muon"]


def test_processes_that_encode_at_the_same_time_keep_no_pictures(pair: list[dict[str, Any]]) -> None:
    assert "keep no encoded pictures" in pair[0]["cache"]


def go_on(folder: Path, stop_before: int | None) -> list[float]:
    return losses(run(folder, stop_before=stop_before)[1])


@pytest.mark.slow
def test_four_processes_begin_two_go_on_and_one_ends(tmp_path: Path) -> None:
    alone, lines = run(None)
    found = in_processes(go_on, 4, tmp_path / "four", tmp_path / "run", 3)[0][:2]
    found += in_processes(go_on, 2, tmp_path / "two", tmp_path / "run", 5)[0][:2]
    trainer, last = run(tmp_path / "run")
    assert [*found, *losses(last)] == pytest.approx(losses(lines), rel=EXACT)
    assert_near(weights_of(trainer.module), weights_of(alone.module))
    assert trainer.step == 6


def start(folder: Path, processes: int, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), str(SCRIPT)]
    return subprocess.Popen(
        [sys.executable, "-m", *command, str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def processes_of(run: subprocess.Popen[str], step: int, count: int) -> dict[int, int]:
    """The process ids by rank, once all have come to this step."""
    found: dict[int, int] = {}
    assert run.stdout is not None
    for line in run.stdout:
        words = line.split()
        if words[1:3] == ["step", str(step)]:
            found[int(words[0])] = int(words[-1])
        if len(found) == count:
            return found
    pytest.fail(f"the run ended early: {run.communicate()[1]}")


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path: Path) -> None:
    process = start(tmp_path / "run", 2, "5000")
    os.kill(processes_of(process, 5, 2)[1], signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    state = load_newest_state(tmp_path / "run")
    assert state is not None, errors
    ends = [line for line in output.splitlines() if "stopped at step" in line]
    assert sorted(line.split()[0] for line in ends) == ["0", "1"]
    assert all(f"stopped at step {state.step} of 5000, saved in" in line for line in ends)
    resumed, _ = run(tmp_path / "run", steps=5000, stop_before=state.step + 1)
    straight, _ = run(None, steps=5000, stop_before=state.step + 1)
    assert resumed.step == state.step + 1
    assert_near(weights_of(resumed.module), weights_of(straight.module))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_killed_while_it_saves_costs_only_the_steps_since_the_state_before(
    tmp_path: Path, victim: int
) -> None:
    process = start(tmp_path / "run", 2, "5000", "slow at 6")
    found = processes_of(process, 5, 2)
    own = f"state-0000{victim + 1}-of-00002.safetensors"
    begin = time.monotonic()
    while not list((tmp_path / "run").glob(f".step-0000006.partial-*/{own}")):
        assert time.monotonic() - begin < 60
        time.sleep(0.01)
    os.kill(found[victim], signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    state = load_newest_state(tmp_path / "run")
    assert state is not None
    assert state.step == 4
    resumed, _ = run(tmp_path / "run", steps=5000, stop_before=8)
    straight, _ = run(None, steps=5000, stop_before=8)
    assert_near(weights_of(resumed.module), weights_of(straight.module))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "log.jsonl",
        "step-0000006",
        "step-0000008",
    ]
