"""Data sets whose files hold a JSON object for each row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_lines, read_list, read_mapping, row_of
from paligemma2.data.readers.records import Record

Layout: TypeAlias = Literal["list", "lines", "mapping"]
OPTION_SIGN = " \t "
"""Between the options of a question, as big_vision's A-OKVQA and AI2D have it (`PROMPT_SEP`)."""


@dataclass(frozen=True, kw_only=True)
class JsonRecords:
    """Rows of a JSON file.

    Attributes:
        file: its name.
        layout: "list" is a list of objects, or holds one under `rows`; "lines" has an object on each line;
            "mapping" is an object of objects, whose keys name the rows.
        image: the field that names the picture, or a text with fields in braces, "{image_id:012d}.jpg";
            several of these for several pictures.
        id: the field that names the row; "" counts the rows.
        rows: the field of the list; "" where the file is the list.
        where: only rows with these values.
        choices: a field with a list of options, of which the field `options` is made: all of them with
            `OPTION_SIGN` between.
    """

    file: str
    layout: Layout = "list"
    image: str | tuple[str, ...] = "image"
    id: str = ""
    rows: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    choices: str = ""

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        for number, (key, row) in enumerate(self._rows(folder)):
            with row_of(self.file, key or number):
                if any(row.get(name) != value for name, value in self.where.items()):
                    continue
                pictures = picture_names(self.image, row)
                record = Record(
                    id=key or (str(row[self.id]) if self.id else str(number)),
                    pictures=pictures,
                    fields={**row, "options": OPTION_SIGN.join(row[self.choices])} if self.choices else row,
                    unit=pictures[0],
                )
            yield record

    def _rows(self, folder: DataFolder) -> Iterator[tuple[str, Any]]:
        if self.layout == "mapping":
            yield from read_mapping(folder, self.file).items()
        elif self.layout == "lines":
            yield from (("", row) for row in read_lines(folder, self.file))
        else:
            yield from (("", row) for row in read_list(folder, self.file, self.rows))


def picture_names(image: str | tuple[str, ...], row: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of a row's pictures, from fields or from texts with fields in braces.

    Raises:
        LookupError: the row lacks a field.
    """
    texts = (image,) if isinstance(image, str) else image
    return tuple(text.format_map(row) if "{" in text else str(row[text]) for text in texts)
