"""Screens of RICO: Screen2Words tells what a screen is for, Widget Captioning what a part of it does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paligemma2.data.pictures import picture_size
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_json, row_of
from paligemma2.data.readers.records import Record
from paligemma2.data.readers.row_files import csv_rows, text_lines
from paligemma2.data.rows import UnusableRow
from paligemma2.errors import DataError
from paligemma2.processing.image import open_image
from paligemma2.types import Box, EditedPicture, StoredPicture

_CANVAS_HEIGHT = 2560  # of the view hierarchies, whatever the screenshot has


@dataclass(frozen=True, kw_only=True)
class ScreenSummaries:
    """The screens of a split in the order of its list: `captions`, five of each.

    Attributes:
        split: the file that lists the screens, "split/train_screens.txt".
        file: a table with the columns screenId and summary.
    """

    split: str
    file: str = "screen_summaries.csv"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        captions: dict[int, list[str]] = {}
        for number, row in csv_rows(folder, self.file):
            with row_of(self.file, number):
                captions.setdefault(int(row["screenId"]), []).append(row["summary"])
        for line, text in enumerate(text_lines(folder, self.split), start=1):
            with row_of(self.split, line):
                screen = int(text)
                record = Record(
                    id=str(screen), pictures=(f"{screen}.jpg",), fields={"captions": captions[screen]}
                )
            yield record


@dataclass(frozen=True, kw_only=True)
class WidgetCaptions:
    """The parts of the screens of a split: `captions`, and the picture with a red box around the part.

    Attributes:
        split: the file that lists the screens, "split/train.txt".
        file: a table with the columns screenId, nodeId and captions, these with "|" between them.
    """

    split: str
    file: str = "widget_captions.csv"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        listed = set(text_lines(folder, self.split))
        # With its folders, a name leads to one of the many view hierarchies without a search.
        above = next(iter(folder.names("combined/*.json")), "combined/").rpartition("/")[0]
        for number, row in csv_rows(folder, self.file):
            with row_of(self.file, number):
                screen, node = row["screenId"], row["nodeId"]
                if screen not in listed:
                    continue
                record = Record(
                    id=f"{screen}_{node}",
                    pictures=(_outlined(folder, screen, node, f"{above}/{screen}.json"),),
                    fields={"captions": row["captions"].split("|")},
                    unit=screen,
                )
            yield record


def _outlined(folder: DataFolder, screen: str, node: str, hierarchy: str) -> EditedPicture | str:
    """The screenshot with a box around a part; its name alone if it is not there."""
    name = f"{screen}.jpg"
    source = folder.image(name)
    if source is None:
        return name
    view = read_json(folder, hierarchy)
    with row_of(hierarchy, node):
        x_min, y_min, x_max, y_max = _part(view, node)["bounds"]
        height, width = _size(source)
        down, across = 1 / _CANVAS_HEIGHT, height / width / _CANVAS_HEIGHT
        box = Box(y_min=y_min * down, x_min=x_min * across, y_max=y_max * down, x_max=x_max * across)
    return EditedPicture(source=name, outline=box)


def _part(view: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    """The part that a path of numbers leads to, "0.1.2": of the root, its second child and its third."""
    part: Mapping[str, Any] = view["activity"]["root"]
    for index in node.split(".")[1:]:
        part = part["children"][int(index)]
    return part


def _size(source: StoredPicture) -> tuple[int, int]:
    """(height, width) in pixels."""
    if not isinstance(source, str | Path | bytes):
        image = open_image(source)
        return image.height, image.width
    try:
        return picture_size(source)
    except UnusableRow as error:
        raise DataError(str(error), hint="unpack the screenshots again") from error
