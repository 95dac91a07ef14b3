import io
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from PIL import Image

from paligemma2.data.doctor import pictures
from paligemma2.data.doctor.pictures import PictureSource, examine_picture, examine_pictures
from paligemma2.processing.image import MAX_FILE_BYTES
from tests.small_model import save_picture


def as_bytes(image: Image.Image, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **settings)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20), "red").save(file, "JPEG", exif=exif)
    return file.getvalue()


def test_the_facts_of_a_sound_picture(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.png", size=(60, 40))
    facts = examine_picture(path)
    assert (facts.rule, facts.message, facts.mode, facts.is_turned) == ("", "", "", False)
    assert (facts.height, facts.width) == (40, 60)
    assert facts.signature is not None
    assert facts == examine_picture(path.read_bytes())


def test_a_missing_picture(tmp_path: Path) -> None:
    facts = examine_picture(tmp_path / "nothing.png")
    assert (facts.rule, facts.digest) == ("missing-image", b"")
    assert "nothing.png is missing" in facts.message


@pytest.mark.parametrize("spoil", ["text", "cut", "empty", "folder", "huge"])
def test_a_picture_that_cannot_be_read(tmp_path: Path, spoil: str) -> None:
    path = save_picture(tmp_path / "a.png")
    if spoil == "text":
        path.write_text("no picture")
    elif spoil == "cut":
        path.write_bytes(path.read_bytes()[:-400])
    elif spoil == "empty":
        path.write_bytes(b"")
    elif spoil == "huge":
        with path.open("r+b") as file:
            file.truncate(MAX_FILE_BYTES + 100)
    else:
        path = tmp_path
    facts = examine_picture(path)
    assert (facts.rule, facts.signature) == ("corrupt-image", None)
    assert str(path) in facts.message


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (Image.new("RGBA", (9, 9)), "RGBA: transparency is dropped"),
        (Image.new("L", (9, 9)), "L: grey"),
        (Image.new("LA", (9, 9)), "LA: grey, transparency is dropped"),
        (Image.new("I;16", (9, 9)), "I;16: 16 bits"),
        (Image.new("P", (9, 9)), "P: a palette"),
        (Image.new("1", (9, 9)), "1: black and white"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusual_colours_are_named(image: Image.Image, part: str) -> None:
    facts = examine_picture(as_bytes(image))
    assert facts.rule == ""
    assert part in facts.mode


def test_a_transparent_colour_is_named() -> None:
    assert "transparency" in examine_picture(as_bytes(Image.new("RGB", (9, 9)), transparency=(0, 0, 0))).mode


@pytest.mark.parametrize(("orientation", "is_turned", "size"), [(1, False, (20, 30)), (6, True, (30, 20))])
def test_pictures_turned_by_exif_are_named(orientation: int, is_turned: bool, size: tuple[int, int]) -> None:
    facts = examine_picture(turned(orientation))
    assert (facts.is_turned, (facts.height, facts.width)) == (is_turned, size)


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    one, two = save_picture(tmp_path / "1.png", seed=1), save_picture(tmp_path / "2.png", seed=2)
    (tmp_path / "3.png").write_bytes(one.read_bytes())
    digests = [examine_picture(path).digest for path in (one, two, tmp_path / "3.png")]
    assert digests[0] == digests[2] != digests[1]


def test_processes_give_the_same_in_the_same_order(tmp_path: Path) -> None:
    sources: list[tuple[int, PictureSource]] = [
        (number, save_picture(tmp_path / f"{number}.png", seed=number, size=(12, 12)))
        for number in range(300)
    ]
    sources[7] = (7, tmp_path / "missing.png")
    sources[9] = (9, b"no picture")
    assert list(examine_pictures(sources, num_workers=2)) == list(examine_pictures(sources, num_workers=0))


def test_pictures_are_taken_only_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_SMALL", 1)
    taken: list[int] = []

    def sources() -> Iterator[tuple[int, PictureSource]]:
        for number in range(10_000):
            taken.append(number)
            yield number, b"no picture"

    found = examine_pictures(sources(), num_workers=1)
    assert next(found)[0] == 0
    assert len(taken) < 500
    assert isinstance(found, Generator)
    found.close()
