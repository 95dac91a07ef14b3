"""Whether settings of decoding make sense, by themselves and together."""

import math
from collections.abc import Sequence
from typing import get_args

from paligemma2.errors import InputError
from paligemma2.types import BeamRule, Decoding, DecodingMethod

_METHODS, _BEAM_RULES = get_args(DecodingMethod), get_args(BeamRule)
_USED_BY: dict[str, tuple[DecodingMethod, ...]] = {
    **dict.fromkeys(("temperature", "top_k", "top_p", "seed", "best_of"), ("sample",)),
    **dict.fromkeys(("beams", "beam_rule", "length_penalty"), ("beam",)),
    **dict.fromkeys(("stop", "top_log_probs"), ("greedy", "sample")),
}


def check_decoding(decoding: Decoding) -> None:
    """Nothing, if the settings make sense.

    Raises:
        InputError: a setting is out of range, or belongs to another method.
    """
    ranges = {
        "max_new_tokens": (decoding.max_new_tokens >= 1, "give at least 1"),
        "method": (decoding.method in _METHODS, f"use one of {', '.join(_METHODS)}"),
        "temperature": (0 < decoding.temperature < math.inf, "give a number above 0, or method='greedy'"),
        "top_k": (decoding.top_k is None or decoding.top_k >= 1, "give at least 1, or None"),
        "top_p": (0 < decoding.top_p <= 1, "give a probability above 0; 1 leaves no token out"),
        "stop": (_are_texts(decoding.stop), "give a tuple of texts of at least one character"),
        "beams": (decoding.beams >= 1, "give at least 1"),
        "best_of": (decoding.best_of >= 1, "give at least 1"),
        "top_log_probs": (decoding.top_log_probs >= 0, "give 0 or more"),
        "beam_rule": (decoding.beam_rule in _BEAM_RULES, f"use one of {', '.join(_BEAM_RULES)}"),
        "length_penalty": (0 <= decoding.length_penalty < math.inf, "give 0 or more"),
    }
    for name, (is_right, hint) in ranges.items():
        if not is_right:
            raise InputError(f"{name} is {getattr(decoding, name)!r}", hint=hint)
    for name, methods in _USED_BY.items():
        value = getattr(decoding, name)
        if decoding.method not in methods and value != getattr(Decoding, name):
            raise InputError(
                f"{name} is {value!r}, which the method {decoding.method!r} does not use",
                hint=f"leave {name} out, or give method={' or '.join(map(repr, methods))}",
            )
    if decoding.beam_rule == "big_vision" and decoding.length_penalty:
        raise InputError(
            f"length_penalty is {decoding.length_penalty}, which the rule of big_vision does not know",
            hint="leave it out, or give beam_rule='hf'",
        )
    if decoding.best_of > 1 and decoding.stop:
        raise InputError(
            f"stop is {decoding.stop!r} with best_of={decoding.best_of}",
            hint="leave one of them out: answers are compared whole",
        )


def _are_texts(stop: Sequence[str]) -> bool:
    return not isinstance(stop, str) and all(isinstance(text, str) and text for text in stop)
