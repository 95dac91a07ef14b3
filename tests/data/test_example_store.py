import pickle
import sys
import tracemalloc
from pathlib import Path

import pytest

from paligemma2.data.example_store import ExampleStore
from paligemma2.types import Example, FilePart, Variant


def example(number: int) -> Example:
    return Example(images=(Path(f"{number}.png"),), prefix="ask", suffix=str(number), id=f"row {number}")


def store_of(count: int) -> ExampleStore:
    store = ExampleStore()
    for number in range(count):
        store.append(example(number))
    return store


def test_examples_come_back_as_they_were() -> None:
    store = store_of(3)
    odd = Example(images=(b"picture", FilePart(Path("a.tar"), 512, 9)), suffix="a", answers=("a", "b"))
    store.append(odd)
    assert list(store) == [example(0), example(1), example(2), odd]


def test_variants_come_back_as_they_were() -> None:
    store = ExampleStore()
    variants = (Variant(prefixes=("the cat", "the grey one"), answers=("a",)),)
    store.append(Example(images=("a.png",), prefix="the cat", suffix="a", variants=variants))
    assert store[0].variants == variants


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
