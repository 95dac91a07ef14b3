"""Many examples in one block of memory."""

import marshal
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from paligemma2.types import Clip, Example, FilePart, ImageSource, Variant


class ExampleStore(Sequence[Example]):
    """Examples as bytes, each made anew when it is asked for.

    Objects of Python take three times as much, and processes that share memory copy every page with an object
    that they look at; this block they share.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("Q", [0])

    def append(self, example: Example) -> None:
        """Add an example at the end; its pictures are paths, bytes or parts of files, its `meta` is empty."""
        assert not example.meta
        images = tuple(_plain(image) for image in example.images)
        variants = tuple((variant.prefixes, variant.answers) for variant in example.variants)
        self._data += marshal.dumps(
            (images, example.prefix, example.suffix, example.answers, variants, example.id)
        )
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
        images, prefix, suffix, answers, variants, name = marshal.loads(
            memoryview(self._data)[self._ends[place] : self._ends[place + 1]]
        )
        return Example(
            images=tuple(map(_image, images)),
            prefix=prefix,
            suffix=suffix,
            answers=answers,
            variants=tuple(Variant(prefixes=ways, answers=texts) for ways, texts in variants),
            id=name,
        )


def _plain(image: ImageSource | Clip) -> Any:
    """A picture as text, bytes or a tuple: what `marshal` can write down."""
    if isinstance(image, FilePart):
        return str(image.path), image.offset, image.size
    if isinstance(image, Path):
        return (str(image),)
    assert isinstance(image, str | bytes), type(image)
    return image


def _image(plain: Any) -> ImageSource:
    if not isinstance(plain, tuple):
        image: str | bytes = plain
        return image
    return Path(plain[0]) if len(plain) == 1 else FilePart(Path(plain[0]), *plain[1:])
