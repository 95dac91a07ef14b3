"""Pictures that look alike, found by a difference hash and confirmed by their colours.

The hash (dHash: is each of 8 × 8 cells clearly brighter than its left neighbour?) survives another size,
another encoding and small changes of brightness and contrast, but no cropping, mirroring or turning.
Two pictures are near duplicates when at most `MAX_DISTANCE` of the 64 bits differ and their 8 × 8 colours
differ by at most `MAX_COLOUR_DIFFERENCE` of 255 on average: drawings on plain ground share hashes easily,
colours as well rarely.
"""

import itertools
from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 8
MAX_DISTANCE = 5
MAX_COLOUR_DIFFERENCE = 8.0
# With fewer set or fewer clear bits a picture is all but flat, and its hash that of any flat picture.
MIN_DETAIL_BITS = 4
# Grey levels between neighbours that count: less is the noise of JPEG on plain ground.
_CLEARLY = 2
# Of pictures with equal bits in a band this many are compared with each other one: time stays linear.
BUCKET_LIMIT = 4096
_CHUNK = 64
_FULL = (1 << SIDE * SIDE) - 1


def _bands() -> tuple[int, ...]:
    """The whole hash, and `MAX_DISTANCE + 1` parts of it, one of which any allowed distance leaves equal."""
    edges = [SIDE * SIDE * part // (MAX_DISTANCE + 1) for part in range(MAX_DISTANCE + 2)]
    parts = [(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)]
    return _FULL, *parts


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What is kept of a picture: `bits` is its hash, `colours` the 64 mean colours as 192 bytes."""

    bits: int
    colours: bytes

    @property
    def has_detail(self) -> bool:
        """Whether there is enough in the picture to tell it from others."""
        return MIN_DETAIL_BITS <= self.bits.bit_count() <= SIDE * SIDE - MIN_DETAIL_BITS


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture of the second table and the one of the first most like it; `distance` counts bits."""

    first: int
    second: int
    distance: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The pairs found, at most one for each of the second pictures, and what could not be compared.

    Attributes:
        pairs: in the order of the second table.
        num_cut: of the second pictures, those with too many candidates to compare with all of them.
    """

    pairs: tuple[Pair, ...]
    num_cut: int


def signature(image: Image.Image) -> Signature:
    """The signature of an RGB picture of any size."""
    # Both grids are read from one that each of them divides: the large picture is averaged once.
    small = image.resize((SIDE * (SIDE + 1), SIDE), Image.Resampling.BOX)
    grey = np.asarray(small.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits((grey[:, 1:] - grey[:, :-1] > _CLEARLY).ravel())
    colours = small.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()
    return Signature(bits=int.from_bytes(bits.tobytes(), "big"), colours=colours)


class SignatureTable:
    """Signatures of pictures, each under a number of the caller's; one takes some 270 bytes."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._bits: list[int] = []
        self._colours = bytearray()

    def __len__(self) -> int:
        return len(self._bits)

    def add(self, place: int, found: Signature) -> None:
        """Keep a signature."""
        self._places.append(place)
        self._bits.append(found.bits)
        self._colours += found.colours

    def place(self, row: int) -> int:
        """The caller's number of a row."""
        return self._places[row]

    def part(self, places: Container[int]) -> "SignatureTable":
        """The signatures kept under these numbers."""
        part = SignatureTable()
        width = 3 * SIDE * SIDE
        for row, place in enumerate(self._places):
            if place in places:
                colours = bytes(self._colours[row * width : (row + 1) * width])
                part.add(place, Signature(bits=self._bits[row], colours=colours))
        return part

    def arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        """The hashes, uint64 [pictures], and the colours, uint8 [pictures, 192]."""
        colours = np.frombuffer(bytes(self._colours), dtype=np.uint8)
        return np.array(self._bits, dtype=np.uint64), colours.reshape(len(self), 3 * SIDE * SIDE)


def compare(first: SignatureTable, second: SignatureTable) -> Comparison:
    """Near duplicates between two sets of pictures.

    Time grows with the number of pictures, not with its square: only those that share a band of the hash are
    compared, and at most `BUCKET_LIMIT` of a band. Memory beyond that of the tables is bounded.
    """
    if not len(first) or not len(second):
        return Comparison(pairs=(), num_cut=0)
    ours, theirs = _Arrays(first), _Arrays(second)
    indices = [_BandIndex(ours.bits, mask) for mask in _bands()]
    pairs: list[Pair] = []
    num_cut = 0
    for start in range(0, len(second), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(second)))
        candidates, is_cut = _candidates(indices, theirs.bits[rows])
        num_cut += int(is_cut.sum())
        for i, j, distance in _alike(ours, theirs, candidates[0], rows[candidates[1]]):
            pairs.append(Pair(first=first.place(i), second=second.place(j), distance=distance))
    return Comparison(pairs=tuple(pairs), num_cut=num_cut)


class _Arrays:
    """A table as arrays: hashes uint64 [pictures], colours int16 [pictures, 192]."""

    def __init__(self, table: SignatureTable) -> None:
        self.bits, colours = table.arrays()
        self.colours = colours.astype(np.int16)


def _alike(
    ours: _Arrays, theirs: _Arrays, i: NDArray[np.int64], j: NDArray[np.int64]
) -> Iterator[tuple[int, int, int]]:
    """Of the candidates (i, j) the best near duplicate of each j, with the distance of the hashes."""
    distances = np.bitwise_count(ours.bits[i] ^ theirs.bits[j]).astype(np.int64)
    is_near = distances <= MAX_DISTANCE
    i, j, distances = i[is_near], j[is_near], distances[is_near]
    differences = np.abs(ours.colours[i] - theirs.colours[j]).mean(axis=1)
    is_alike = differences <= MAX_COLOUR_DIFFERENCE
    i, j, distances, differences = i[is_alike], j[is_alike], distances[is_alike], differences[is_alike]
    order = np.lexsort((i, differences, distances, j))
    _, firsts = np.unique(j[order], return_index=True)
    for at in order[firsts]:
        yield int(i[at]), int(j[at]), int(distances[at])


class _BandIndex:
    """Rows of the first table, sorted by some of their bits."""

    def __init__(self, bits: NDArray[np.uint64], mask: int) -> None:
        self._mask = np.uint64(mask)
        keys = bits & self._mask
        self.rows = np.argsort(keys, kind="stable")
        self._keys = keys[self.rows]

    def find(self, bits: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Begin and end in `rows` of those with equal bits, for each of `bits`."""
        keys = bits & self._mask
        begin = np.searchsorted(self._keys, keys, "left").astype(np.int64)
        return begin, np.searchsorted(self._keys, keys, "right").astype(np.int64)


def _candidates(
    indices: list[_BandIndex], bits: NDArray[np.uint64]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]:
    """Rows of the first table with the rows of `bits` they may be like, and which of `bits` were cut."""
    found, rows = [], []
    is_cut = np.zeros(len(bits), dtype=bool)
    for index in indices:
        begin, end = index.find(bits)
        is_cut |= end - begin > BUCKET_LIMIT
        counts = np.minimum(end - begin, BUCKET_LIMIT)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found.append(index.rows[np.repeat(begin, counts) + within])
        rows.append(np.repeat(np.arange(len(bits)), counts))
    return (np.concatenate(found), np.concatenate(rows)), is_cut
