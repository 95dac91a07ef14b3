"""Pascal VOC: an XML file of boxes for each picture.

Pixels count from 1 and the last one belongs to the box (VOC development kit): a box over the whole of a
picture of 10 × 10 has xmin 1 and xmax 10, which is 0 to 1 here. Boxes only: the masks of VOC are not read.
Read: `Annotations/*.xml` with `JPEGImages` and `ImageSets/Main`, or XML files beside their pictures.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from paligemma2.data.formats.boxes import check_has_no_text, checked_box, note, numbers
from paligemma2.data.pictures import PictureFolder, only_picture, row_size
from paligemma2.data.rows import Annotation, DataRow, OnProblem, UnusableRow, split_in, split_of_file
from paligemma2.data.text_files import TextFiles
from paligemma2.errors import DataError
from paligemma2.types import Box

_TRIED = 10  # files, in which a few may be broken
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_here(source: Path) -> bool:
    """Whether the folder or one below it has XML files of annotations, or the file is one."""
    return any(_looks_right(path) for path in _files(source)[:_TRIED])


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix == ".xml" else []
    return sorted(source.rglob("*.xml"))


def _looks_right(path: Path) -> bool:
    try:
        return _parsed(path).tag == "annotation"
    except UnusableRow:
        return path.parent.name == "Annotations"


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """A row per XML file, in the order of their names; a file that cannot be read is skipped and reported.

    Raises:
        DataError: a list of a split cannot be read.
    """
    splits = _listed_splits(source)
    for path in _files(source):
        try:
            split = splits.get(path.stem) or split_of_file(path, source)
            yield _row(path, _parsed(path), split, on_problem)
        except UnusableRow as problem:
            on_problem(problem.problem(path))


def _listed_splits(source: Path) -> dict[str, str]:
    """The split of each stem by `ImageSets/Main`; `trainval` says less than `train` and `val` do."""
    splits: dict[str, str] = {}
    for path in sorted(source.glob("**/ImageSets/Main/*.txt"), key=lambda path: path.stem != "trainval"):
        split = split_in(path.stem)
        if "_" in path.stem or split is None:  # cat_train.txt says which pictures have a cat
            continue
        try:
            stems = path.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}", hint="it must be text in UTF-8") from error
        splits.update(dict.fromkeys(stems, split))
    return splits


def _parsed(path: Path) -> ElementTree.Element:
    """The root of an XML file, in which no entity can be declared, as those can grow without limit."""
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise UnusableRow("the file cannot be read", error.strerror or str(error)) from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, UnusableRow):
            raise
        raise UnusableRow("not XML", str(error)) from None


def _refuse_doctype(*declared: object) -> None:
    raise UnusableRow("the XML declares a document type, which is not read", str(declared[0]))


def _row(path: Path, root: ElementTree.Element, split: str, on_problem: OnProblem) -> DataRow:
    name = (root.findtext("filename") or "").strip()
    if root.tag != "annotation" or not name:
        raise UnusableRow("not an annotation of VOC", f"<{root.tag}> without filename")
    height, width = _size(root)
    places = (path.parent, path.parent.parent / "JPEGImages", path.parent.parent / "images")
    place = next((at for at in places if (at / name).is_file()), places[path.parent.name == "Annotations"])
    row = DataRow(images=(place / name,), height=height, width=width, split=split, id=path.stem, file=path)
    objects = []
    for element in root.iter("object"):
        try:
            thing = _object(element, row, height, width, on_problem)
        except UnusableRow as problem:
            note(row, on_problem, f"{problem.reason} and is left out", problem.detail)
            continue
        if thing is not None:
            objects.append(thing)
    return DataRow(
        images=row.images,
        objects=tuple(objects),
        height=height,
        width=width,
        split=split,
        id=row.id,
        file=path,
    )


def _size(root: ElementTree.Element) -> tuple[int, int]:
    stated = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
    if not all(side.strip().isdecimal() and int(side) > 0 for side in stated):
        raise UnusableRow("the size of the picture is missing", f"height and width are {stated}")
    height, width = map(int, stated)
    return height, width


def _object(
    element: ElementTree.Element, row: DataRow, height: int, width: int, on_problem: OnProblem
) -> Annotation | None:
    label = (element.findtext("name") or "").strip()
    if not label:
        raise UnusableRow("an object has no name")
    stated = [element.findtext(f"bndbox/{corner}") or "" for corner in _CORNERS]
    try:
        x_min, y_min, x_max, y_max = numbers([float(corner) for corner in stated], 4)
    except ValueError:
        raise UnusableRow("a box is not made of numbers", f"{label!r}: {stated}") from None
    box = Box(
        y_min=(y_min - 1) / height, x_min=(x_min - 1) / width, y_max=y_max / height, x_max=x_max / width
    )
    checked = checked_box(box, label, row, on_problem)
    return None if checked is None else Annotation(label=label, box=checked)


class Writer:
    """Writes `Annotations`, `JPEGImages` and `ImageSets/Main`; a box is rounded to whole pixels."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder, self._pictures, self._lists = folder, PictureFolder(), TextFiles()

    def write(self, row: DataRow) -> None:
        """Add a picture, or more objects to it."""
        only_picture(row)
        check_has_no_text(row)
        height, width = row_size(row)
        name = self._pictures.add(self._folder / "JPEGImages", row)
        path = (self._folder / "Annotations" / name).with_suffix(".xml")
        is_new = not path.exists()
        root = _new_root(name, height, width) if is_new else ElementTree.parse(path).getroot()
        for thing in row.objects:
            _add_object(root, thing, height, width)
        ElementTree.indent(root)
        path.parent.mkdir(exist_ok=True)
        ElementTree.ElementTree(root).write(path, encoding="utf-8")
        if is_new:
            split = {"valid": "val"}.get(row.split, row.split)
            self._lists.write(self._folder / "ImageSets" / "Main" / f"{split}.txt", path.stem + "\n")

    def close(self) -> None:
        """End the lists of the splits."""
        self._lists.close()


def _new_root(name: str, height: int, width: int) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    size = ElementTree.SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, tag, str(value))
    return root


def _add_object(root: ElementTree.Element, thing: Annotation, height: int, width: int) -> None:
    y_min, x_min, y_max, x_max = (round(value) for value in thing.box.pixels(height, width))
    element = ElementTree.SubElement(root, "object")
    _add(element, "name", thing.label)
    corners = ElementTree.SubElement(element, "bndbox")
    # A box thinner than a pixel keeps one.
    values = (min(x_min + 1, width), min(y_min + 1, height), max(x_max, x_min + 1), max(y_max, y_min + 1))
    for corner, value, limit in zip(_CORNERS, values, (width, height) * 2, strict=True):
        _add(corners, corner, str(min(value, limit)))


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
