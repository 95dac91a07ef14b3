"""What is not trained is in no saved state: it comes from the checkpoint again, and is known by a digest."""

import hashlib

import torch
from torch import Tensor, nn

from paligemma2.training.state_files import own_rows
from paligemma2.training.team import team_of

_VALUES = 16


def frozen_digest(module: nn.Module) -> str:
    """A digest of the parameters that are not trained: of their names, shapes and some values of each.

    The values are up to 16, spread over the first row, as bfloat16: reading them costs next to nothing, any
    number of processes that share the module finds the same, and so does one that keeps the frozen part in
    bfloat16. Weights of few bits are no parameters; they are not looked at.

    Returns:
        SHA-256 in hexadecimal, empty if everything is trained.
    """
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
    if not frozen:
        return ""
    return team_of(frozen.values()).told(lambda: _digest(frozen))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        row = own_rows(tensor)[0][:1].flatten()  # which is with the first process
        some = row[:: -(-len(row) // _VALUES)].to("cpu", torch.bfloat16)
        digest.update(some.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
