"""ScienceQA: questions of lessons with options, of which those with a picture are read."""

import itertools
import math
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_mapping, row_of
from paligemma2.data.readers.records import Record


@dataclass(frozen=True, kw_only=True)
class ScienceQaRecords:
    """The problems of a split that have a picture, `<split>/<id>/<image>`.

    To their fields come `context`, the hint or "N/A", `options`, "(A) one, (B) two", and `letter`.

    Attributes:
        split: "train", "val" or "test".
        orders: how many orders of the options there may be as variants to train on; 0 for none.
        file: its name.
    """

    split: str
    orders: int = 0
    file: str = "problems.json"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        for key, row in read_mapping(folder, self.file).items():
            with row_of(self.file, key):
                if row["split"] != self.split or not row["image"]:
                    continue
                orders = option_orders(len(row["choices"]), max(self.orders, 1), key)
                fields = [_fields(row, order) for order in orders]
                record = Record(
                    id=key,
                    pictures=(f"/{self.split}/{key}/{row['image']}",),
                    fields=fields[0],
                    variants=tuple((each,) for each in fields) if self.orders else (),
                )
            yield record


def option_orders(count: int, limit: int, key: str) -> list[tuple[int, ...]]:
    """Different orders of so many options: all of them, or `limit` drawn by `key`; the first is unchanged."""
    if math.factorial(count) <= limit:
        return list(itertools.permutations(range(count)))
    rng, found = random.Random(key), {tuple(range(count)): None}
    while len(found) < limit:
        found[tuple(rng.sample(range(count), count))] = None
    return list(found)


def _fields(row: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    letters = string.ascii_uppercase
    return {
        "question": row["question"],
        "context": row["hint"] or "N/A",
        "options": ", ".join(
            f"({letters[place]}) {row['choices'][choice]}" for place, choice in enumerate(order)
        ),
        "letter": letters[order.index(int(row["answer"]))],
        "choices": [row["choices"][choice] for choice in order],
    }
