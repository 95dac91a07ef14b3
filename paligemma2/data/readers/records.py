"""What the readers of benchmarks give: rows of a data set's own files, field by field."""

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol, TypeAlias

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.types import ImageSource


@dataclass(frozen=True)
class VideoPart:
    """A video of the data set by the name of its file without suffix, or a part of it.

    Attributes:
        name: which file.
        start: seconds from the beginning.
        end: seconds; None goes to the end.
    """

    name: str
    _: KW_ONLY
    start: float = 0.0
    end: float | None = None


Picture: TypeAlias = str | VideoPart | ImageSource
"""A picture: a name to look up in the folder of the data set, a video, or the picture itself."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a data set.

    Attributes:
        id: of the row within its split, as the data set's own files have it where they do.
        pictures: in the order in which the model sees them.
        fields: what prompts and answers are made of.
        unit: what intervals draw anew, as the picture that several questions are about; "" is the row itself.
        variants: where training takes one of several things in turn, as the objects of a picture: for each of
            them the fields in all ways to ask about it. `fields` are then the first of the first.
    """

    id: str
    pictures: tuple[Picture, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    variants: tuple[tuple[Mapping[str, Any], ...], ...] = ()


class Reader(Protocol):
    """Reads one split of a data set; a frozen dataclass, so that it can be printed, compared and hashed."""

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """The rows of the split in the order of its files.

        Raises:
            DataError: a file is missing or does not hold what it should.
        """
