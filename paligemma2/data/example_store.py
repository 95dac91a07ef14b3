"""Many examples in one block of memory."""

import marshal
from array import array
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, overload

from paligemma2.types import (
    Box,
    Clip,
    EditedPicture,
    Example,
    FilePart,
    ImageSource,
    Label,
    StoredPicture,
    TableCell,
    Variant,
)

_LABEL, _BOX = (tuple(each.name for each in fields(kind)) for kind in (Label, Box))


class ExampleStore(Sequence[Example]):
    """Examples as bytes, each made anew when it is asked for.

    Objects of Python take three times as much, and processes that share memory copy every page with an object
    that they look at; this block they share.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("Q", [0])

    def append(self, example: Example) -> None:
        """Add an example at the end; its pictures hold no pixels, its `meta` is empty."""
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
    """A picture as text, bytes or a tuple that begins with its kind: what `marshal` can write down."""
    if isinstance(image, FilePart):
        return "part", str(image.path), image.offset, image.size, image.is_deflated
    if isinstance(image, TableCell):
        return "cell", str(image.path), image.row, image.column
    if isinstance(image, EditedPicture):
        labels = tuple(astuple(label) for label in image.labels)
        outline = None if image.outline is None else astuple(image.outline)
        return "edited", _plain(image.source), image.quarter_turns, labels, outline
    if isinstance(image, Clip):
        return "clip", _plain(image.source), image.num_frames, image.stride, image.start, image.end
    if isinstance(image, Path):
        return "path", str(image)
    assert isinstance(image, str | bytes), type(image)
    return image


def _image(plain: Any) -> ImageSource | Clip:
    if isinstance(plain, tuple) and plain[0] == "edited":
        return _edited(*plain[1:])
    return _clip(*plain[1:]) if isinstance(plain, tuple) and plain[0] == "clip" else _stored(plain)


def _stored(plain: Any) -> StoredPicture:
    if not isinstance(plain, tuple):
        image: str | bytes = plain
        return image
    kind, path, *rest = plain
    if kind == "path":
        return Path(path)
    return FilePart(Path(path), *rest) if kind == "part" else TableCell(Path(path), *rest)


def _edited(source: Any, quarter_turns: int, labels: Any, outline: Any) -> EditedPicture:
    return EditedPicture(
        source=_stored(source),
        quarter_turns=quarter_turns,
        labels=tuple(Label(**dict(zip(_LABEL, label, strict=True))) for label in labels),
        outline=None if outline is None else Box(**dict(zip(_BOX, outline, strict=True))),
    )


def _clip(source: Any, num_frames: int, stride: int | None, start: float, end: float | None) -> Clip:
    video = _stored(source)
    assert isinstance(video, str | Path | bytes)
    return Clip(video, num_frames=num_frames, stride=stride, start=start, end=end)
