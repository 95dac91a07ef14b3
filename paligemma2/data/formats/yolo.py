"""YOLO's folders: `data.yaml` with the names, and a text file of boxes or outlines for each picture.

A line is a class and either centre x, centre y, width and height, or the points x y of an outline, all as
fractions. The labels of `…/images/…/a.jpg` are in `…/labels/…/a.txt`, or beside the picture where there is no
folder `images`. A picture without such a file has no objects.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from paligemma2.data.formats.boxes import check_has_no_text, checked_box, note
from paligemma2.data.formats.outlines import largest_polygon
from paligemma2.data.pictures import SUFFIXES, PictureFolder, only_picture, row_size
from paligemma2.data.rows import (
    Annotation,
    DataRow,
    OnProblem,
    RowProblem,
    UnusableRow,
    canonical_split,
)
from paligemma2.data.text_files import TextFiles, numbered_lines
from paligemma2.errors import DataError
from paligemma2.types import Box

_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
_SPLITS = ("train", "val", "valid", "test")


def is_here(source: Path) -> bool:
    """Whether the folder has a file of names, or the file is one."""
    return _settings_file(source) is not None


def _settings_file(source: Path) -> Path | None:
    if source.is_file():
        return source if source.suffix in (".yaml", ".yml") else None
    return next((source / name for name in _NAMES if (source / name).is_file()), None)


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """A row per picture, split by split, in the order of their names."""
    path = _settings_file(source)
    assert path is not None, "the format was found here"
    settings = _settings(path)
    labels = _labels(settings, path)
    for split in _SPLITS:
        stated = settings.get(split) or []
        for place in [stated] if isinstance(stated, str) else stated:
            found = _resolved(path, settings, str(place))
            if found is None:
                on_problem(UnusableRow("a folder of pictures is missing", f"{split}: {place}").problem(path))
                continue
            yield from _rows(found, canonical_split(split), labels, on_problem)


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="it must be YAML in UTF-8") from error
    if not isinstance(settings, Mapping):
        raise DataError(f"{path} has no names of classes", hint="write names: [cat, dog]")
    return settings


def _labels(settings: Mapping[str, Any], path: Path) -> Mapping[int, str]:
    names = settings.get("names")
    named = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(named, Mapping) or not all(isinstance(number, int) for number in named):
        raise DataError(f"{path} has no names of classes: {names!r}", hint="write names: [cat, dog]")
    return {number: str(name) for number, name in named.items()}


def _resolved(path: Path, settings: Mapping[str, Any], place: str) -> Path | None:
    """Where the pictures of a split are; Roboflow writes `../train/images` for `train/images`."""
    bases = (path.parent / str(settings.get("path") or ""), path.parent)
    names = (place, place.removeprefix("../"))
    places = (base / name for base in bases for name in names)
    return next((place for place in places if place.exists()), None)


def _rows(place: Path, split: str, labels: Mapping[int, str], on_problem: OnProblem) -> Iterator[DataRow]:
    seen: dict[Path, set[str]] = {}
    for picture in _pictures(place, on_problem):
        text = _text_file(picture)
        seen.setdefault(text.parent, set()).add(text.name)
        row = DataRow(images=(picture,), split=split, id=picture.stem, file=text)
        objects = _objects(row, labels, on_problem) if text.is_file() else ()
        yield DataRow(images=row.images, objects=objects, split=split, id=row.id, file=text)
    for folder, names in seen.items():
        for text in sorted(folder.glob("*.txt")):
            if text.name not in names and text != place:
                on_problem(UnusableRow("labels have no picture").problem(text))


def _pictures(place: Path, on_problem: OnProblem) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
        return
    for _, name in numbered_lines(place, on_problem):
        yield place.parent / name.strip()


def _text_file(picture: Path) -> Path:
    parts = list(picture.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            return Path(*parts[:index], "labels", *parts[index + 1 :])
    return Path(*parts)


def _objects(row: DataRow, labels: Mapping[int, str], on_problem: OnProblem) -> tuple[Annotation, ...]:
    objects = []
    for number, line in numbered_lines(row.file, lambda problem: on_problem(_kept(problem))):
        here = DataRow(images=row.images, file=row.file, line=number)
        try:
            thing = _object(line.split(), labels, here, on_problem)
        except UnusableRow as problem:
            note(here, on_problem, f"{problem.reason} and is left out", problem.detail)
            continue
        if thing is not None:
            objects.append(thing)
    return tuple(objects)


def _kept(problem: RowProblem) -> RowProblem:
    """A line that cannot be read costs an object, not the picture."""
    return RowProblem(
        file=problem.file, line=problem.line, reason=problem.reason, detail=problem.detail, is_skipped=False
    )


def _object(
    fields: list[str], labels: Mapping[int, str], row: DataRow, on_problem: OnProblem
) -> Annotation | None:
    is_box = len(fields) == 5
    if not is_box and (len(fields) < 7 or len(fields) % 2 == 0):
        raise UnusableRow("a line is neither a box nor an outline", f"it has {len(fields)} numbers")
    try:
        label, values = labels[int(fields[0])], [float(field) for field in fields[1:]]
    except ValueError:
        raise UnusableRow("a line is not made of numbers", " ".join(fields)[:60]) from None
    except KeyError:
        raise UnusableRow("an object is of no known class", f"class {fields[0]}") from None
    if not all(map(math.isfinite, values)):
        raise UnusableRow("a line is not made of numbers", " ".join(fields)[:60])
    points = () if is_box else tuple(zip(values[::2], values[1::2], strict=True))
    box = checked_box(_box(values) if is_box else _box_around(points), label, row, on_problem)
    return None if box is None else Annotation(label=label, box=box, polygons=(points,) if points else ())


def _box(values: list[float]) -> Box:
    x, y, width, height = values
    return Box(y_min=y - height / 2, x_min=x - width / 2, y_max=y + height / 2, x_max=x + width / 2)


def _box_around(points: tuple[tuple[float, float], ...]) -> Box:
    xs, ys = zip(*points, strict=True)
    return Box(y_min=min(ys), x_min=min(xs), y_max=max(ys), x_max=max(xs))


class Writer:
    """Writes `images/<split>`, `labels/<split>` and `data.yaml`; what has an outline is written as one."""

    def __init__(self, folder: Path, on_problem: OnProblem) -> None:
        self._folder, self._pictures, self._on_problem = folder, PictureFolder(), on_problem
        self._classes: dict[str, int] = {}
        self._splits: list[str] = []

    def write(self, row: DataRow) -> None:
        """Add a picture, or more objects to it."""
        only_picture(row)
        check_has_no_text(row)
        name = self._pictures.add(self._folder / "images" / row.split, row)
        if row.split not in self._splits:
            self._splits.append(row.split)
        lines = [self._line(thing, row) for thing in row.objects]
        path = (self._folder / "labels" / row.split / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.writelines(lines)

    def _line(self, thing: Annotation, row: DataRow) -> str:
        number = self._classes.setdefault(thing.label, len(self._classes))
        if thing.polygons or thing.rle is not None:
            points, parts = largest_polygon(thing, *row_size(row))
            if parts > 1:
                reason = "an outline has several parts, of which YOLO holds the largest"
                note(row, self._on_problem, reason, f"{thing.label!r} has {parts}")
            if points:
                return (
                    " ".join([str(number), *(f"{value:.6f}" for point in points for value in point)]) + "\n"
                )
        box = thing.box
        centre = ((box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2)
        sides = (box.x_max - box.x_min, box.y_max - box.y_min)
        return " ".join([str(number), *(f"{value:.6f}" for value in centre + sides)]) + "\n"

    def close(self) -> None:
        """Write the names, and which folders there are."""
        words = {"valid": "val"}
        settings = {words.get(split, split): f"images/{split}" for split in self._splits}
        named = {**settings, "names": {number: name for name, number in self._classes.items()}}
        text = yaml.safe_dump(named, allow_unicode=True, sort_keys=False)
        with_text = TextFiles()
        with_text.write(self._folder / "data.yaml", text)
        with_text.close()
