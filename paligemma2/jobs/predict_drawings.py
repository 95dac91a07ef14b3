"""What `predict` draws of its answers: a copy of each picture, a sheet of all, or nothing."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from paligemma2.checkpoint.atomic import new_file
from paligemma2.drawing.boxes import draw_detections, enlarged
from paligemma2.errors import ImageError
from paligemma2.jobs.predict_sheet import ResultSheet
from paligemma2.types import ParsedAnswer

_MARK = ("Software", "paligemma2 predict")


class Drawings:
    """Draws the answers as they come.

    Args:
        images: the files that are asked about; none of them is overwritten.
        prompt: that is asked.
        folder: for copies of the pictures with the objects drawn on them, small ones enlarged, or None.
        sheet: a `.png` or `.html` file for all of them, or None.
    """

    def __init__(
        self, *, images: Collection[Path], prompt: str, folder: Path | None, sheet: Path | None
    ) -> None:
        self._names = folder and _Names(folder, images)
        self._labels: dict[str, None] = {}  # so that a label has one colour on all pictures
        self._sheet = sheet and ResultSheet(sheet, prompt, len(images))

    def add(
        self, image: Path, picture: Image.Image | NDArray[np.float32], parsed: ParsedAnswer
    ) -> Path | None:
        """The file of the picture drawn, or None if none is wanted; nothing is drawn of a video.

        Raises:
            WorkError: the file cannot be written.
        """
        if not isinstance(picture, Image.Image):
            return None
        self._labels.update(dict.fromkeys(found.label for found in parsed.detections))
        if self._sheet:
            self._sheet.add(image, picture, parsed, self._labels)
        if not self._names:
            return None
        annotated = self._names.of(image)
        drawn = draw_detections(enlarged(picture), parsed.detections, labels=self._labels)
        _write_png(drawn, annotated)
        return annotated

    def add_failure(self, image: Path, error: ImageError) -> None:
        """A picture that could not be read, which the sheet says."""
        if self._sheet:
            self._sheet.add_failure(image, error)

    def finish(self) -> None:
        """Write the sheet.

        Raises:
            WorkError: it cannot be written.
        """
        if self._sheet:
            self._sheet.write()


class _Names:
    """Names for annotated pictures: never that of an input, of another picture, or of a stranger's file."""

    def __init__(self, folder: Path, images: Collection[Path]) -> None:
        self._folder = folder
        self._inputs = {image.resolve() for image in images}
        self._taken: set[str] = set()

    def of(self, image: Path) -> Path:
        """Where the picture drawn for `image` goes."""
        number, path = 1, self._folder / f"{image.stem}.png"
        while not self._is_free(path):
            number += 1
            path = self._folder / f"{image.stem}-{number}.png"
        self._taken.add(path.name.lower())  # some file systems do not tell A.png from a.png
        return path

    def _is_free(self, path: Path) -> bool:
        if path.name.lower() in self._taken or path.resolve() in self._inputs:
            return False
        return not path.exists() or _is_ours(path)


def _write_png(picture: Image.Image, path: Path) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text(*_MARK)
    with new_file(path, overwrite=True) as partial:
        picture.save(partial, format="PNG", pnginfo=about)


def _is_ours(path: Path) -> bool:
    """Whether an earlier run wrote this file, so that it may be replaced."""
    try:
        with Image.open(path) as image:
            return image.info.get(_MARK[0]) == _MARK[1]
    except Exception:  # Pillow's readers raise whatever a foreign file leads them to
        return False
