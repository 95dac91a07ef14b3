"""The weights of the best evaluation so far, kept beside the states of a run."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from paligemma2.checkpoint.atomic import new_file
from paligemma2.errors import WorkError

_NAME = "best.safetensors"


def keep_best(folder: Path, module: nn.Module, step: int) -> None:
    """Write the trainable weights of a module in the place of those kept before.

    Raises:
        WorkError: the disk is full; those kept before are untouched.
    """
    weights = {name: p.detach().contiguous() for name, p in module.named_parameters() if p.requires_grad}
    folder.mkdir(parents=True, exist_ok=True)
    with new_file(folder / _NAME, overwrite=True) as partial:
        try:
            save_file(weights, partial, metadata={"step": str(step)})
        except SafetensorError as error:
            raise WorkError(
                f"{folder / _NAME} could not be written: {error}",
                hint="free some disk space and resume; states saved before are untouched",
            ) from error


def restore_best(folder: Path, module: nn.Module, step: int) -> bool:
    """Put the weights that were kept at a step back into the module; whether they were there.

    Raises:
        WorkError: the file is damaged.
    """
    path = folder / _NAME
    if not path.exists():
        return False
    parameters = dict(module.named_parameters())
    try:
        with safe_open(path, framework="pt") as opened, torch.no_grad():
            if (opened.metadata() or {}).get("step") != str(step):
                return False
            for name in opened.offset_keys():
                parameters[name].copy_(opened.get_tensor(name))
    except (SafetensorError, KeyError) as error:
        raise WorkError(
            f"{path} is damaged: {error}", hint="set evaluation.keep=last to do without the best weights"
        ) from error
    return True


def remove_best(folder: Path) -> None:
    """Remove what was kept."""
    (folder / _NAME).unlink(missing_ok=True)
