"""A checkpoint with an adapter in its weights, computed as they are read."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from paligemma2.checkpoint.weights import StoredTensor, Weights
from paligemma2.model.lora import Adapter

_WEIGHT = ".weight"


class MergedWeights:
    """The weights of a checkpoint plus the changes of an adapter.

    Sums are float32, whatever the checkpoint stores, so that who writes them rounds once.

    Args:
        base: weights that are floating-point numbers.
        adapter: for the same model.
    """

    def __init__(self, base: Weights, adapter: Adapter) -> None:
        self._base = base
        self._adapter = adapter

    @property
    def path(self) -> Path:
        """See `Weights`."""
        return self._base.path

    @property
    def layout(self) -> str:
        """See `Weights`."""
        return self._base.layout

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """As in the base."""
        return self._base.tensors

    @property
    def num_zero_rows(self) -> int:
        """See `Weights`."""
        return self._base.num_zero_rows

    def read(self, name: str) -> Tensor:
        """One tensor, in float32 if the adapter changes it."""
        return self._changed(name, self._base.read(name))

    def stream(self) -> Iterator[tuple[str, Tensor]]:
        """See `Weights`; what the adapter changes is float32."""
        for name, tensor in self._base.stream():
            yield name, self._changed(name, tensor)

    def _changed(self, name: str, tensor: Tensor) -> Tensor:
        layer = name.removesuffix(_WEIGHT)
        if layer == name or layer not in self._adapter.changes:
            return tensor
        return tensor.float() + self._adapter.weight_change(layer)
