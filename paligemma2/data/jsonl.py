"""Data sets of the user: a folder of pictures and JSON lines with `image`, `prefix` and `suffix`.

The layout is the one that Roboflow exports for PaliGemma: `_annotations.train.jsonl`,
`_annotations.valid.jsonl` and `_annotations.test.jsonl` beside the pictures they name; plain `train.jsonl`
and so on work too.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from paligemma2.errors import DataError
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.types import Example

_NAMES = {"train": ("train",), "held-out": ("valid", "validation", "val", "test")}
_SHOWN = 3


def read_split(folder: str | Path, split: str) -> tuple[Example, ...]:
    """The examples of a split, with every line checked and every picture known to exist.

    Args:
        folder: of the data set.
        split: "train", or "held-out" for the first of valid, validation, val and test that is there.

    Raises:
        DataError: no such file, or lines that cannot be used; all of them are counted, the first are named.
    """
    path = _find(Path(folder), split)
    try:
        # Not splitlines(): a JSON text may hold U+2028 and other signs that end a line in Python only.
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}", hint="save it as UTF-8") from error
    examples, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            examples.append(_example(line, path, number))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        raise DataError(
            f"{path}: {len(problems)} of {len(lines)} lines cannot be used ({shown})",
            hint="a line is a JSON object with image, prefix and suffix; correct or remove these",
        )
    if not examples:
        raise DataError(f"{path}: no examples", hint="write one JSON object per line")
    return tuple(examples)


def _find(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="give the folder that holds the JSONL files")
    names = [name for part in _NAMES[split] for name in (f"_annotations.{part}.jsonl", f"{part}.jsonl")]
    for place in (folder, folder / "dataset"):
        for name in names:
            if (place / name).is_file():
                return place / name
    raise DataError(f"{folder} has no {split} examples", hint=f"put there one of {', '.join(names)}")


def _example(line: str, path: Path, number: int) -> Example:
    try:
        record: Any = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {getattr(error, 'msg', 'nested too deep')}") from error
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    images = record.get("image")
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not images or not all(isinstance(name, str) for name in images):
        raise ValueError(f"image is {record.get('image')!r}")
    prefix, suffix = record.get("prefix", ""), record.get("suffix")
    if not isinstance(prefix, str) or not isinstance(suffix, str) or not suffix.strip():
        raise ValueError(f"prefix {prefix!r} and suffix {suffix!r} must be text, the suffix not empty")
    files = tuple(path.parent / name for name in images)
    for file in files:
        if not file.is_file():
            raise ValueError(f"picture {file.name} is missing")
    return Example(images=files, prefix=prefix, suffix=suffix, id=f"{path.stem}:{number}")


def fingerprint(examples: Sequence[Example]) -> str:
    """Hexadecimal digest of the texts, picture names and picture sizes of examples, in their order."""
    digest = hashlib.sha256()
    for example in examples:
        pictures = [(str(image), Path(str(image)).stat().st_size) for image in example.images]
        digest.update(json.dumps([pictures, example.prefix, example.suffix]).encode())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class ExampleBatches:
    """Makes the batch of a step from examples in an order that depends on seed and epoch alone.

    Every example comes once per epoch; a batch may hold the end of one epoch and the begin of the next.
    """

    examples: tuple[Example, ...]
    processor: Processor
    batch_size: int
    seed: int

    def __call__(self, step: int) -> ModelInputs:
        """The batch of this step."""
        return self.processor.encode([self.examples[i] for i in self.indices(step)], train=True)

    def indices(self, step: int) -> list[int]:
        """Which examples the batch of this step holds."""
        count = len(self.examples)
        first = step * self.batch_size
        return [
            _order(self.seed, place // count, count)[place % count]
            for place in range(first, first + self.batch_size)
        ]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed} {epoch}").sample(range(count), count))
