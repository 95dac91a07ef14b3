"""Many examples in one block of memory."""

import pickle
from array import array
from collections.abc import Sequence
from typing import overload

from paligemma2.types import Example


class ExampleStore(Sequence[Example]):
    """Examples as bytes, each made anew when it is asked for.

    Objects of Python take three times as much, and processes that share memory copy every page with an object
    that they look at; this block they share.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("Q", [0])

    def append(self, example: Example) -> None:
        """Add an example at the end."""
        self._data += pickle.dumps(example, protocol=pickle.HIGHEST_PROTOCOL)
        self._ends.append(len(self._data))

    @property
    def num_bytes(self) -> int:
        """What the examples take, with the pictures that are inside of them."""
        return len(self._data)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        example = pickle.loads(memoryview(self._data)[self._ends[place] : self._ends[place + 1]])
        assert isinstance(example, Example)
        return example
