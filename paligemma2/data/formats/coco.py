"""COCO's JSON: `instances_*.json` with boxes, polygons and masks, `captions_*.json` with captions.

A file of instances gives one row per picture, also for a picture without objects; a file of captions one row
per picture with all its captions. A file is read at once, so memory holds what it says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paligemma2.data.formats.boxes import box_from_pixels, checked_box, note
from paligemma2.data.rows import Annotation, DataRow, OnProblem, Point, UnusableRow, split_of_file
from paligemma2.data.text_files import json_file, open_bytes
from paligemma2.errors import DataError
from paligemma2.processing.prompts import caption

_PEEK = 1 << 16
_KINDS = ("instances_", "captions_")


def is_here(source: Path) -> bool:
    """Whether the folder has such files, or the file is one."""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    """Files by their official names where there are any, else whatever looks like COCO inside."""
    found = [source] if source.is_file() else sorted({*source.glob("*.json"), *source.glob("*/*.json")})
    official = [path for path in found if path.name.startswith(_KINDS)]
    return [path for path in official or found if path.suffix == ".json" and _looks_right(path)]


def _looks_right(path: Path) -> bool:
    with open_bytes(path) as file:
        head = file.read(_PEEK)
    names = (b'"images"', b'"annotations"', b'"categories"')
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") and any(
        name in head for name in names
    )


def read(source: Path, on_problem: OnProblem) -> Iterator[DataRow]:
    """The rows of every file, in the order of its pictures."""
    for path in _files(source):
        yield from _File(path, source if source.is_dir() else path.parent, on_problem).rows()


class _File:
    def __init__(self, path: Path, root: Path, on_problem: OnProblem) -> None:
        self._path, self._on_problem = path, on_problem
        data = json_file(path)
        self._images = _list(data, "images", path)
        self._split = split_of_file(path, root)
        self._places = _places(path, root, self._split)
        categories = data.get("categories") or []
        self._labels = {one.get("id"): str(one.get("name")) for one in categories if isinstance(one, dict)}
        self._annotations = self._by_image(_list(data, "annotations", path))

    def _by_image(self, annotations: list[Any]) -> dict[Any, list[dict[str, Any]]]:
        grouped: dict[Any, list[dict[str, Any]]] = {}
        for image in self._images:
            if isinstance(image, dict) and isinstance(image.get("id"), int | str):
                grouped[image["id"]] = []
        for one in annotations:
            image_id = one.get("image_id") if isinstance(one, dict) else None
            if isinstance(image_id, int | str) and image_id in grouped:
                grouped[image_id].append(one)
            else:
                problem = UnusableRow("an annotation belongs to no picture", f"image_id is {image_id!r}")
                self._on_problem(problem.problem(self._path))
        return grouped

    def rows(self) -> Iterator[DataRow]:
        """All rows of the file."""
        for image in self._images:
            try:
                yield from self._rows_of(image)
            except UnusableRow as problem:
                self._on_problem(problem.problem(self._path))

    def _rows_of(self, image: Any) -> Iterator[DataRow]:
        row, found = self._empty_row(image), self._annotations[image["id"]]
        captions = [one for one in found if "caption" in one]
        objects = [one for one in found if "caption" not in one]
        texts = self._captions(captions)
        if texts:
            answers = texts if len(texts) > 1 else ()
            name = f"{row.id}:caption"  # the picture may stand in a file of instances too
            yield replace(row, id=name, prefix=caption(), suffix=texts[0], answers=answers)
        if objects or not captions:
            yield replace(row, objects=self._objects(objects, row))

    def _captions(self, found: list[dict[str, Any]]) -> tuple[str, ...]:
        texts = []
        for one in found:
            if isinstance(one["caption"], str) and one["caption"].strip():
                texts.append(one["caption"].strip())
            else:
                problem = UnusableRow("the caption is empty", f"annotation {one.get('id')}")
                self._on_problem(problem.problem(self._path))
        return tuple(texts)

    def _empty_row(self, image: Any) -> DataRow:
        is_object = isinstance(image, dict) and isinstance(image.get("id"), int | str)
        name = image.get("file_name") if is_object else None
        if not isinstance(name, str) or not name:
            raise UnusableRow("a picture has no id or file_name", f"it is {str(image)[:80]}")
        height, width = image.get("height"), image.get("width")
        if not all(isinstance(side, int) and side > 0 for side in (height, width)):
            raise UnusableRow("a picture has no height and width", f"{name}: {height!r} × {width!r}")
        place = next((at for at in self._places if (at / name).is_file()), self._places[0])
        return DataRow(
            images=(place / name,),
            height=height,
            width=width,
            split=self._split,
            id=str(image["id"]),
            file=self._path,
        )

    def _objects(self, found: list[dict[str, Any]], row: DataRow) -> tuple[Annotation, ...]:
        objects = []
        for one in found:
            try:
                thing = self._object(one, row)
            except UnusableRow as problem:
                detail = f"annotation {one.get('id')}: {problem.detail}"
                note(row, self._on_problem, f"{problem.reason} and is left out", detail)
                continue
            if thing is not None:
                objects.append(thing)
        return tuple(objects)

    def _object(self, one: Mapping[str, Any], row: DataRow) -> Annotation | None:
        if one.get("category_id") not in self._labels:
            raise UnusableRow("an object is of no known category", f"category_id {one.get('category_id')!r}")
        label = self._labels[one["category_id"]]
        height, width = row.height or 0, row.width or 0
        box = checked_box(box_from_pixels(one.get("bbox"), height, width), label, row, self._on_problem)
        if box is None:
            return None
        outline = one.get("segmentation") or []
        return Annotation(
            label=label,
            box=box,
            polygons=_polygons(outline, height, width) if isinstance(outline, list) else (),
            rle=_checked_rle(outline, height, width) if isinstance(outline, dict) else None,
            is_crowd=bool(one.get("iscrowd")),
        )


def _list(data: Any, name: str, path: Path) -> list[Any]:
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{path} has no list of {name}", hint="give a file of COCO's instances or captions")
    return found


def _places(path: Path, root: Path, split: str) -> list[Path]:
    """Where pictures may lie, the likeliest first: beside the file, or in a folder named after the split."""
    own = path.stem.split("_", 1)[-1]  # train2017 of instances_train2017
    names = ("", "images", own, split, f"images/{own}", f"images/{split}")
    return [at / name for at in dict.fromkeys((path.parent, path.parent.parent, root)) for name in names]


def _polygons(outline: list[Any], height: int, width: int) -> tuple[tuple[Point, ...], ...]:
    polygons = []
    for flat in outline:
        if not isinstance(flat, list) or len(flat) % 2 or len(flat) < 6:
            raise UnusableRow("an outline is not made of three points or more", f"it is {str(flat)[:60]}")
        if not all(isinstance(value, int | float) for value in flat):
            raise UnusableRow("an outline is not made of numbers", f"it is {str(flat)[:60]}")
        points = zip(flat[::2], flat[1::2], strict=True)
        polygons.append(tuple((_clip(x / width), _clip(y / height)) for x, y in points))
    return tuple(polygons)


def _checked_rle(rle: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    counts = rle.get("counts")
    if rle.get("size") != [height, width] or not isinstance(counts, str | list):
        raise UnusableRow("a mask is not of the size of its picture", f"size {rle.get('size')}")
    is_numbers = isinstance(counts, list) and all(isinstance(run, int) and run >= 0 for run in counts)
    if isinstance(counts, list) and (not is_numbers or sum(counts) != height * width):
        raise UnusableRow("the runs of a mask do not fill its picture", f"{height} × {width}")
    return {"size": [height, width], "counts": counts}


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
