"""Small generated data sets, and how the tests of formats write and read them."""

from contextlib import closing
from pathlib import Path

from paligemma2.data.registry import FORMATS, open_data
from paligemma2.data.rows import Annotation, DataRow, RowProblem
from paligemma2.types import Box
from tests.small_model import save_picture

SPLITS = ("train", "valid", "test")
LABELS = ("cat", "person's hat", "no-entry (left)", "Müllwagen 垃圾车")


def write_rows(name: str, folder: Path, rows: list[DataRow]) -> list[RowProblem]:
    """Write rows in the format `name`; returns what it had to say."""
    problems: list[RowProblem] = []
    folder.mkdir(parents=True, exist_ok=True)
    with closing(FORMATS[name].writer(folder, problems.append)) as writer:
        for row in rows:
            writer.write(row)
    return problems


def read_rows(name: str | None, source: Path) -> tuple[list[DataRow], list[RowProblem]]:
    """All rows, and the problems that were reported."""
    problems: list[RowProblem] = []
    return list(open_data(source, format=name, on_problem=problems.append)), problems


def read_sound(name: str | None, source: Path) -> list[DataRow]:
    """All rows of a data set without problems."""
    rows, problems = read_rows(name, source)
    assert problems == []
    return rows


def box(x_min: float, y_min: float, x_max: float, y_max: float, height: int, width: int) -> Box:
    """A box from corners in pixels."""
    return Box(y_min=y_min / height, x_min=x_min / width, y_max=y_max / height, x_max=x_max / width)


def thing(
    x_min: float, y_min: float, x_max: float, y_max: float, height: int, width: int, label: str = "cat"
) -> Annotation:
    """An object from corners in pixels; its outline is a diamond inside the box."""
    corners = box(x_min, y_min, x_max, y_max, height, width)
    x, y = (corners.x_min + corners.x_max) / 2, (corners.y_min + corners.y_max) / 2
    diamond = ((corners.x_min, y), (x, corners.y_min), (corners.x_max, y), (x, corners.y_max))
    return Annotation(label=label, box=corners, polygons=(diamond,))


def object_rows(folder: Path, count: int = 6) -> list[DataRow]:
    """Rows with 0, 1, 2, … objects at whole pixels, of all splits; their pictures have names that collide."""
    rows = []
    for number in range(count):
        height, width = 40 + 10 * number, 60
        picture = save_picture(folder / str(number) / "a.png", number, (width, height))
        objects = tuple(
            thing(5 * at, 4 + at, 20 + 5 * at, 30 + at, height, width, LABELS[(number + at) % len(LABELS)])
            for at in range(number)
        )
        split = SPLITS[number % len(SPLITS)]
        rows.append(DataRow(images=(picture,), objects=objects, split=split, id=str(number), file=picture))
    return rows


def text_rows(folder: Path, texts: list[tuple[str, str]]) -> list[DataRow]:
    """A row with a picture of its own for each pair of prefix and suffix, of all splits."""
    return [
        DataRow(
            images=(save_picture(folder / f"{number}.png", number, (12, 9)),),
            prefix=prefix,
            suffix=suffix,
            split=SPLITS[number % len(SPLITS)],
            id=f"row {number}",
            file=folder,
        )
        for number, (prefix, suffix) in enumerate(texts)
    ]


def picture_of(row: DataRow, number: int = 0) -> bytes:
    """The encoded picture of a row, wherever it is."""
    image = row.images[number]
    if isinstance(image, bytes):
        return image
    assert isinstance(image, Path)
    return image.read_bytes()
