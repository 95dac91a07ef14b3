"""A small new task to transfer to: which bin a part belongs in.

Pre-training uses neither this drawing style nor these words. The letter of a bin follows from the shape of
the part and its digit from the colour, by a rule that the seed draws. No typeface is needed.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.render import draw_scene
from paligemma2.data.synthetic.samples import Pixels
from paligemma2.data.synthetic.scenes import OTHER_THEME, random_contents, random_scene
from paligemma2.data.synthetic.seeds import OTHER_STYLE_SPLIT, random_for
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.errors import InputError, WorkError

PREFIX = "sort the part"
PICTURE_SIZE = 224
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # no I and O, which look like digits
_DIGITS = "0123456789"


@dataclass(frozen=True, kw_only=True)
class BinRule:
    """The letter of each shape and the digit of each colour."""

    letters: Mapping[str, str]
    digits: Mapping[str, str]

    def bin_of(self, shape: str, color: str) -> str:
        """The answer for a part: "bin B3"."""
        return f"bin {self.letters[shape]}{self.digits[color]}"


def bin_rule(seed: int) -> BinRule:
    """The rule of a seed; all bins of a rule differ."""
    rng = random.Random(f"bins {seed}")
    letters = rng.sample(_LETTERS, len(SHAPES))
    digits = rng.sample(_DIGITS, len(COLORS))
    return BinRule(
        letters=dict(zip(SHAPES, letters, strict=True)), digits=dict(zip(COLORS, digits, strict=True))
    )


def write_transfer_task(folder: Path, *, train: int, held_out: int, seed: int) -> None:
    """Write the task as Roboflow exports one: two JSONL files, and the pictures beside them.

    Args:
        folder: is made if it is not there; files of an earlier call are replaced.
        train: examples in `_annotations.train.jsonl`.
        held_out: examples in `_annotations.valid.jsonl`; none of their pictures is among the others.
        seed: of the rule and of the pictures.

    Raises:
        InputError: a split would be empty.
        WorkError: the folder cannot be written.
    """
    for name, count in (("train", train), ("held_out", held_out)):
        if count < 1:
            raise InputError(f"{name} is {count}", hint="give at least 1")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_split(folder, "train", range(train), seed)
        _write_split(folder, "valid", range(train, train + held_out), seed)
    except OSError as error:
        raise WorkError(f"{folder}: {error}", hint="choose a folder that can be written") from error


def _write_split(folder: Path, split: str, indices: range, seed: int) -> None:
    rule, lines = bin_rule(seed), []
    for index in indices:
        pixels, suffix = _example(index, seed, rule)
        name = f"part_{index:05d}.png"
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        lines.append(json.dumps({"image": name, "prefix": PREFIX, "suffix": suffix}))
    text = "\n".join(lines) + "\n"
    (folder / f"_annotations.{split}.jsonl").write_text(text, encoding="utf-8")


def _example(index: int, seed: int, rule: BinRule) -> tuple[Pixels, str]:
    rng = random_for(f"transfer task {seed}", OTHER_STYLE_SPLIT, index)
    (part,) = contents = random_contents(rng, 1)
    pixels = draw_scene(random_scene(rng, contents, OTHER_THEME), PICTURE_SIZE)
    return pixels, rule.bin_of(part.shape, part.color)
