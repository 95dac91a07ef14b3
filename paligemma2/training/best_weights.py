"""The weights of the best evaluation so far, kept beside the states of a run and in the same form."""

import shutil
from pathlib import Path

from torch import nn

from paligemma2.errors import WorkError
from paligemma2.training.checkpointing import load_newest_state, save_state
from paligemma2.training.team import team_of

_NAME = "best"


def keep_best(folder: Path, module: nn.Module, step: int) -> None:
    """Write the trainable weights of a module in the place of those kept before.

    Processes that share the module call this together.

    Raises:
        WorkError: the disk is full; those kept before are untouched.
    """
    trained = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    save_state(folder / _NAME, step, trained, {}, keep=1)


def restore_best(folder: Path, module: nn.Module, step: int) -> bool:
    """Put the weights that were kept at a step back into the module; whether they were there.

    Processes that share the module call this together.

    Raises:
        WorkError: the files are damaged.
    """
    parameters = dict(module.named_parameters())
    team = team_of(module.parameters())
    if not team.told(lambda: any((folder / _NAME).glob("step-*"))):
        return False
    saved = load_newest_state(folder / _NAME, team)
    if saved is None or not saved.tensors.keys() <= parameters.keys():
        raise WorkError(
            f"{folder / _NAME} is damaged", hint="set evaluation.keep=last to do without the best weights"
        )
    if saved.step != step:
        return False
    for name in saved.tensors:
        saved.tensors.copy_to(name, parameters[name])
    return True


def remove_best(folder: Path) -> None:
    """Remove what was kept."""
    shutil.rmtree(folder / _NAME, ignore_errors=True)
