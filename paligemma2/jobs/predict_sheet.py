"""All pictures and answers of a run of `predict` in one file: a contact sheet or a page."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image

from paligemma2.checkpoint.atomic import new_file
from paligemma2.drawing.page import Picture, Section, Table, render_page
from paligemma2.drawing.sheet import MAX_TILES, THUMBNAIL_SIDE, Tile, draw_sheet, thumbnail
from paligemma2.errors import ImageError, InputError
from paligemma2.types import Detection, ParsedAnswer

_LARGE_SIDE = 640
_FEW = 40  # pictures that a page shows large
_HEADER = ("picture", "object", "score", "left", "top", "right", "bottom", "mask pixels")


class ResultSheet:
    """Collects small copies of the pictures as they come, and writes them at the end.

    Args:
        path: a `.png` or an `.html` file; an existing one is replaced.
        prompt: that was asked.
        num_pictures: that will come.
    """

    def __init__(self, path: Path, prompt: str, num_pictures: int) -> None:
        self._path, self._prompt = path, prompt
        self._is_page = path.suffix.lower() == ".html"
        self._side = _LARGE_SIDE if self._is_page and num_pictures <= _FEW else THUMBNAIL_SIDE
        self._tiles: list[Tile] = []
        self._objects: list[tuple[str, ...]] = []
        self._failures: list[str] = []

    def add(self, image: Path, picture: Image.Image, parsed: ParsedAnswer, labels: Iterable[str]) -> None:
        """One more picture, with what was answered.

        Args:
            image: the file.
            picture: what is in it.
            parsed: the answer.
            labels: have the first colours; see `draw_detections`.
        """
        small = thumbnail(picture, parsed.detections, labels=labels, side=self._side)
        self._tiles.append(Tile(image=small, title=self._title(image), text=summary(parsed)))
        self._objects += [_row(image, picture, found) for found in parsed.detections]

    def add_failure(self, image: Path, error: ImageError) -> None:
        """One more picture, which could not be read."""
        self._failures.append(error.message)
        self._tiles.append(Tile(image=None, title=self._title(image), text="cannot be read"))

    def write(self) -> None:
        """Write the file.

        Raises:
            WorkError: the disk is full or refuses.
        """
        with new_file(self._path, overwrite=True) as partial:
            if self._is_page:
                partial.write_text(self._page(), encoding="utf-8")
            else:
                draw_sheet(self._tiles).save(partial, format="PNG")

    def _title(self, image: Path) -> str:
        return str(image) if self._is_page else image.name  # a long path would be cut before its name

    def _page(self) -> str:
        pictures = tuple(
            Picture(image=tile.image, title=tile.title, lines=(tile.text,))
            for tile in self._tiles
            if tile.image is not None
        )
        sections = [Section(title=self._prompt or "(empty prompt)", pictures=pictures)]
        if self._objects:
            table = Table(header=_HEADER, rows=tuple(self._objects), caption="Boxes in pixels")
            sections.append(Section(title="Objects", table=table))
        if self._failures:
            sections.append(Section(title="Pictures that cannot be read", lines=tuple(self._failures)))
        return render_page("paligemma2 predict", sections)


def check_sheet(path: Path, images: Collection[Path]) -> None:
    """Refuse a sheet that could not be written in the end.

    Raises:
        InputError: the file is neither PNG nor HTML, is a folder or one of the pictures, or the pictures are
            too many for one sheet.
    """
    if path.suffix.lower() not in (".png", ".html"):
        raise InputError(f"{path} is neither .png nor .html", hint="name the sheet so, as in sheet.html")
    if path.is_dir() or path.resolve() in {image.resolve() for image in images}:
        raise InputError(
            f"{path} is a folder or one of the pictures", hint="give the sheet a name of its own"
        )
    if len(images) > MAX_TILES:
        raise InputError(
            f"{len(images)} pictures on one sheet, the limit is {MAX_TILES}",
            hint="give fewer pictures, or use --annotate, which writes a file for each",
        )


def summary(parsed: ParsedAnswer) -> str:
    """An answer in words for people: how many of what, then the text that belongs to no object."""
    counts = Counter(found.label or "(no label)" for found in parsed.detections)
    objects = ", ".join(f"{count} {label}" for label, count in counts.items())
    return "; ".join(part for part in (objects, parsed.text) if part) or "(empty answer)"


def _row(image: Path, picture: Image.Image, found: Detection) -> tuple[str, ...]:
    top, left, bottom, right = (f"{side:.0f}" for side in found.box.pixels(picture.height, picture.width))
    score = "" if found.score is None else f"{found.score:.2f}"
    mask = "" if found.mask is None else str(int(found.mask.sum()))
    return str(image), found.label, score, left, top, right, bottom, mask
