import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from paligemma2.data import near_duplicates
from paligemma2.data.near_duplicates import (
    MAX_DISTANCE,
    Signature,
    SignatureTable,
    compare,
    signature,
)
from paligemma2.data.synthetic.world import scene_sample

BITS = st.integers(0, 2**64 - 1)
GREY = bytes([128]) * 192


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    scenes = (scene_sample("train", i, size=112) for i in range(160))
    return [Image.fromarray(scene.images[0]) for scene in scenes]


def table(signatures: list[Signature], first: int = 0) -> SignatureTable:
    made = SignatureTable()
    for place, found in enumerate(signatures, start=first):
        made.add(place, found)
    return made


def detailed(pictures: list[Image.Image]) -> list[Image.Image]:
    return [picture for picture in pictures if signature(picture).has_detail]


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    ("change", "share"),
    [
        (lambda picture: picture, 1.0),
        (lambda picture: as_jpeg(picture, 75), 0.98),
        (lambda picture: as_jpeg(picture, 40), 0.95),
        (lambda picture: picture.resize((56, 56)), 0.97),
        (lambda picture: picture.resize((230, 190)), 0.98),
        (lambda picture: ImageEnhance.Brightness(picture).enhance(1.03), 0.95),
        (lambda picture: ImageEnhance.Contrast(picture).enhance(1.05), 0.97),
    ],
    ids=["equal", "jpeg-75", "jpeg-40", "half", "stretched", "brighter", "contrast"],
)
def test_a_changed_copy_is_found(
    pictures: list[Image.Image], change: Callable[[Image.Image], Image.Image], share: float
) -> None:
    kept = detailed(pictures)
    copies = [signature(change(picture)) for picture in kept]
    pairs = compare(table([signature(picture) for picture in kept]), table(copies)).pairs
    assert sum(pair.first == pair.second for pair in pairs) >= share * len(kept)


def test_other_pictures_are_not_found(pictures: list[Image.Image]) -> None:
    signatures = [signature(picture) for picture in detailed(pictures)]
    half = len(signatures) // 2
    assert compare(table(signatures[:half]), table(signatures[half:])).pairs == ()
    mirrored = [signature(ImageOps.mirror(picture)) for picture in detailed(pictures)]
    assert len(compare(table(signatures), table(mirrored)).pairs) <= 0.05 * len(signatures)


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_a_flat_picture_has_no_detail(colour: str) -> None:
    assert not signature(Image.new("RGB", (50, 70), colour)).has_detail


@given(BITS, st.sets(st.integers(0, 63), max_size=9))
def test_hashes_are_paired_exactly_up_to_the_distance(bits: int, flips: set[int]) -> None:
    other = bits
    for place in flips:
        other ^= 1 << place
    found = compare(table([Signature(bits=bits, colours=GREY)]), table([Signature(bits=other, colours=GREY)]))
    assert [pair.distance for pair in found.pairs] == ([len(flips)] if len(flips) <= MAX_DISTANCE else [])


@settings(max_examples=30)
@given(st.lists(BITS, max_size=40), st.lists(BITS, max_size=40), st.integers(0, 2**32 - 1))
def test_the_index_finds_what_comparing_all_finds(ours: list[int], theirs: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    theirs = theirs + [bits ^ (1 << int(rng.integers(64))) for bits in ours]
    found = compare(
        table([Signature(bits=bits, colours=GREY) for bits in ours]),
        table([Signature(bits=bits, colours=GREY) for bits in theirs], first=1000),
    )
    nearest = {
        1000 + j: min((bits ^ other).bit_count() for bits in ours) for j, other in enumerate(theirs) if ours
    }
    expected = {place: distance for place, distance in nearest.items() if distance <= MAX_DISTANCE}
    assert {pair.second: pair.distance for pair in found.pairs} == expected


def test_equal_hashes_of_other_colours_are_no_pair() -> None:
    ours = table([Signature(bits=0xFFFF, colours=bytes([100]) * 192)])
    for level, is_pair in [(107, True), (110, False)]:
        theirs = table([Signature(bits=0xFFFF, colours=bytes([level]) * 192)])
        assert bool(compare(ours, theirs).pairs) == is_pair


def test_too_many_candidates_are_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "BUCKET_LIMIT", 3)
    crowd = [Signature(bits=0xFFFF, colours=GREY)] * 4
    assert compare(table(crowd), table(crowd[:2])).num_cut == 2
    assert compare(table(crowd[:3]), table(crowd[:2])).num_cut == 0


def test_a_part_of_a_table_keeps_its_numbers() -> None:
    signatures = [Signature(bits=1 << place, colours=bytes([place]) * 192) for place in range(10)]
    part = table(signatures).part({3, 7})
    assert [part.place(row) for row in range(len(part))] == [3, 7]
    bits, colours = part.arrays()
    assert (bits.tolist(), colours[:, 0].tolist()) == ([1 << 3, 1 << 7], [3, 7])
