"""Splits and their random numbers: everything in this world is a function of (purpose, split, index)."""

import hashlib
import random

import numpy as np

from paligemma2.errors import InputError

SPLITS = ("train", "validation", "test", "test_other_style")
OTHER_STYLE_SPLIT = "test_other_style"


def random_for(purpose: str, split: str, index: int) -> random.Random:
    """The generator of one sample; no two (purpose, split, index) share one.

    Raises:
        InputError: `split` is not one of `SPLITS`, or `index` is negative.
    """
    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}", hint=f"use one of {', '.join(SPLITS)}")
    if index < 0:
        raise InputError(f"the sample index is {index}", hint="use 0 or more")
    digest = hashlib.blake2b(f"{purpose}/{split}/{index}".encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))


def noise_generator(seed: int) -> np.random.Generator:
    """A NumPy generator for pixel noise; `seed` comes from the sample's own generator."""
    return np.random.Generator(np.random.PCG64(seed))
