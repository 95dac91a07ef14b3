"""What optimisers keep for each parameter, as plain tensors of a saved state, and back.

torchao's moments of 8 bits are tensors made of tensors: codes, a scale for every 256 of them, and the table
from codes to numbers. Each is stored under its own name.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from paligemma2.optional import require
from paligemma2.training.state_files import StateTensors

_PREFIX = "optimizer"


def stored_states(
    optimizers: Sequence[Optimizer], parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """All states by name: `optimizer.<number>.<kind>.<parameter>`, or `….<kind>:<part>.<parameter>`.

    Args:
        optimizers: of a run.
        parameters: that they train, by name.
    """
    tensors = {}
    for name, parameter in parameters.items():
        for number, optimizer in enumerate(optimizers):
            for kind, value in optimizer.state.get(parameter, {}).items():
                for part, tensor in _parts(torch.as_tensor(value)).items():
                    tensors[f"{_PREFIX}.{number}.{kind}{part}.{name}"] = tensor
    return tensors


def restore_states(
    optimizers: Sequence[Optimizer], parameters: Mapping[str, nn.Parameter], saved: StateTensors
) -> None:
    """Give optimisers the states that `stored_states` named.

    Args:
        optimizers: of the run that goes on, before their first step.
        parameters: see `stored_states`.
        saved: read, of what is shared out, in the rows of this process alone.

    Raises:
        MissingExtra: there are states of 8 bits, and torchao is not installed.
    """
    in_parts: dict[tuple[int, str, str], dict[str, Tensor]] = {}
    for key in saved:
        if not key.startswith(f"{_PREFIX}."):
            continue
        _, number, kind, name = key.split(".", 3)
        kind, _, part = kind.partition(":")
        parameter = parameters[name]
        if part:
            tensors = in_parts.setdefault((int(number), kind, name), {})
            tensors[part] = saved[key].to(parameter.device)
        else:
            optimizers[int(number)].state[parameter][kind] = saved.like(key, parameter)
    for (place, kind, name), tensors in in_parts.items():
        parameter = parameters[name]
        optimizers[place].state[parameter][kind] = _of_8_bits(tensors, parameter.dtype)


def _parts(value: Tensor) -> dict[str, Tensor]:
    """The plain tensors that a tensor is made of, by what is added to its name."""
    if isinstance(value, DTensor) or not hasattr(value, "__tensor_flatten__"):
        return {"": value}
    names, _ = value.__tensor_flatten__()
    return {f":{name}": getattr(value, name) for name in names}


def _of_8_bits(parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    kind = require("torchao.optim.subclass_8bit", extra="quant").OptimState8bit
    is_signed = bool(parts["qmap"].min() < 0)
    state: Tensor = kind(**parts, signed=is_signed, dtype=dtype)
    return state
