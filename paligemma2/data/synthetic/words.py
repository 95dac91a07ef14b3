"""Which words are written: invented and English ones, one in ten kept away from training."""

import random
import zlib

from paligemma2.data.synthetic.english import ENGLISH_WORDS

MIN_LETTERS, MAX_LETTERS = 3, 6

_ENGLISH_SHARE = 0.3
_VOWELS = "AEIOU"
_CONSONANTS = "BCDFGHJKLMNPQRSTVWXYZ"
# c: consonant, v: vowel. Patterns that can be spoken, about as many of each length.
_PATTERNS = {
    3: ("cvc", "cvv", "vcv", "vcc"),
    4: ("cvcv", "vcvc", "cvvc", "cvcc", "ccvc"),
    5: ("cvcvc", "vcvcv", "cvccv", "ccvcv", "cvvcc"),
    6: ("cvcvcv", "cvccvc", "vcvcvc", "ccvccv", "cvcvvc"),
}


def is_held_out(word: str) -> bool:
    """Whether a word (upper case) is kept for validation and test; about one in ten is."""
    return zlib.crc32(word.encode()) % 10 == 0


def _invented_word(rng: random.Random) -> str:
    pattern = rng.choice(_PATTERNS[rng.randint(MIN_LETTERS, MAX_LETTERS)])
    return "".join(rng.choice(_VOWELS if sound == "v" else _CONSONANTS) for sound in pattern)


def random_word(rng: random.Random, split: str) -> str:
    """A word in upper case; training never sees a held-out one, the other splits see nothing else."""
    wanted = split != "train"
    draw_english = rng.random() < _ENGLISH_SHARE
    while True:
        word = rng.choice(ENGLISH_WORDS) if draw_english else _invented_word(rng)
        if is_held_out(word) == wanted:
            return word
