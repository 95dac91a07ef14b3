"""States of AdamW and Muon are in the tests of the trainer; those of 8 bits, made of tensors, are here."""

from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
import torch
from torch import Tensor, nn

from paligemma2.training.checkpointing import load_newest_state
from paligemma2.training.optimizer_states import restore_states, stored_states
from paligemma2.training.recipe import Recipe
from paligemma2.training.trainer import Trainer

# It asks torch about things that are deprecated, when it is imported and while it compiles.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(which("g++") is None, reason="torchao compiles its step, for which there is no g++"),
]
RECIPE = Recipe(
    steps=6,
    batch_size=8,
    optimizer="adamw_8bit",
    learning_rate=0.01,
    weight_decay=0.1,
    checkpoint_every=2,
    log_every=1,
    precision="float32",
)


class Stopped(Exception):
    """Stands for a crash."""


def module() -> nn.Module:
    """A weight that is large enough for 8 bits, and a bias that is not."""
    torch.manual_seed(0)
    return nn.Linear(64, 64)


def run(made: nn.Module, folder: Path | None, crash_after: int | None = None) -> list[float]:
    losses: list[float] = []

    def batches(start: int, stop: int) -> Iterator[Tensor]:
        for step in range(start, stop):
            if step == crash_after:
                raise Stopped
            yield torch.randn(8, 64, generator=torch.Generator().manual_seed(step))

    trainer = Trainer(
        made,
        RECIPE,
        lambda batch: (made(batch) - batch.flip(1)).square().mean(),
        folder=folder,
        on_progress=lambda progress: losses.append(progress.loss),
    )
    trainer.fit(batches)
    return losses


@pytest.fixture(scope="module", autouse=True)
def _torchao() -> None:
    pytest.importorskip("torchao.optim", reason="the extra `quant` is not installed")


def test_states_of_8_bits_are_stored_in_parts_and_a_run_goes_on_exactly(tmp_path: Path) -> None:
    whole = module()
    losses = run(whole, tmp_path / "whole")
    assert losses[-1] < losses[0]
    with pytest.raises(Stopped):
        run(module(), tmp_path / "stopped", crash_after=5)
    state = load_newest_state(tmp_path / "stopped")
    assert state is not None
    kinds = {name.split(".")[2] for name in state.tensors if name.endswith(".weight") and "optim" in name}
    parts = {
        f"{moment}:{part}" for moment in ("exp_avg", "exp_avg_sq") for part in ("codes", "scale", "qmap")
    }
    assert kinds == {"step", *parts}
    assert state.tensors["optimizer.0.exp_avg:codes.weight"].dtype == torch.uint8
    resumed = module()
    assert run(resumed, tmp_path / "stopped") == losses[4:]
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name)), name
    compare(whole, tmp_path)


def compare(trained: nn.Module, folder: Path) -> None:
    """What is stored again of a state that was read is what was read."""
    saved = load_newest_state(folder / "whole")
    assert saved is not None
    parameters = dict(trained.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values())
    restore_states([optimizer], parameters, saved.tensors)
    again = stored_states([optimizer], parameters)
    assert again.keys() == {name for name in saved.tensors if name.startswith("optimizer.")}
    for name, tensor in again.items():
        assert torch.equal(tensor, saved.tensors[name]), name
    second = optimizer.state[parameters["weight"]]["exp_avg_sq"]
    assert (second.dequantize() >= 0).all()
