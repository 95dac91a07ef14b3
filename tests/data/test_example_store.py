import pickle
import sys
import tracemalloc
from pathlib import Path

import pytest

from paligemma2.data.example_store import ExampleStore
from paligemma2.types import Box, Clip, EditedPicture, Example, FilePart, Label, TableCell, Variant


def example(number: int) -> Example:
    return Example(images=(Path(f"{number}.png"),), prefix="ask", suffix=str(number), id=f"row {number}")


def store_of(count: int) -> ExampleStore:
    store = ExampleStore()
    for number in range(count):
        store.append(example(number))
    return store


def test_examples_come_back_as_they_were() -> None:
    store = store_of(3)
    part = FilePart(Path("a.zip"), 512, 9, is_deflated=True)
    edited = EditedPicture(
        source=part,
        quarter_turns=3,
        labels=(Label(left=1, top=2, right=3, bottom=4, text="A"),),
        outline=Box(y_min=0.1, x_min=0.2, y_max=0.3, x_max=0.4),
    )
    cell = TableCell(Path("a.parquet"), 7, "image.bytes")
    images = (b"picture", "a.png", Path("b.png"), part, cell, edited, EditedPicture(source="a.png"))
    odd = Example(images=images, suffix="a", answers=("a", "b"))
    store.append(odd)
    assert list(store) == [example(0), example(1), example(2), odd]


def test_variants_come_back_as_they_were() -> None:
    store = ExampleStore()
    variants = (Variant(prefixes=("the cat", "the grey one"), answers=("a",)),)
    odd = Example(images=("a.png",), prefix="the cat", suffix="a", variants=variants)
    store.append(odd)
    assert store[0] == odd


def test_clips_come_back_as_they_were() -> None:
    store = ExampleStore()
    clips = (Clip(Path("a.mp4"), num_frames=4, stride=7, start=1.5, end=2.5), Clip("b.mp4"), Clip(b"video"))
    store.append(Example(images=clips, prefix="caption en", suffix="a"))
    assert store[0].images == clips


def test_it_is_a_sequence() -> None:
    store = store_of(5)
    assert (len(store), store[-1], store[1:4:2]) == (5, example(4), (example(1), example(3)))
    assert not ExampleStore()
    for outside in (5, -6):
        with pytest.raises(IndexError, match=f"example {outside} of 5"):
            store[outside]


def test_it_can_grow_after_it_was_read_and_goes_to_other_processes() -> None:
    store = store_of(2)
    assert store[0] == example(0)
    store.append(example(2))
    assert list(pickle.loads(pickle.dumps(store))) == [example(0), example(1), example(2)]


def test_it_takes_less_memory_than_a_list() -> None:
    def bytes_of(make: object) -> int:
        tracemalloc.start()
        kept = make(2000)  # type: ignore[operator]
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert sys.getrefcount(kept) > 1
        return size

    assert bytes_of(store_of) < 0.5 * bytes_of(lambda count: [example(number) for number in range(count)])


def test_it_knows_its_size() -> None:
    store = store_of(1)
    before = store.num_bytes
    store.append(Example(images=(bytes(10_000),)))
    assert 10_000 <= store.num_bytes - before <= 10_300
