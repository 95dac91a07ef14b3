"""The kinds of content, and contents as a function of (kind, seed, number)."""

import difflib
import random
from collections.abc import Callable, Iterator, Mapping

from paligemma2.data.miniatures import scene_contents, written_contents
from paligemma2.data.miniatures.content import Content
from paligemma2.errors import ConfigError

KINDS: Mapping[str, Callable[[random.Random, int], Content]] = {
    "question": scene_contents.question,
    "question_languages": scene_contents.question_languages,
    "yes_no": scene_contents.yes_no,
    "count": scene_contents.count,
    "choice": scene_contents.choice,
    "read": written_contents.read,
    "chart": written_contents.chart,
    "caption": scene_contents.caption,
    "caption_languages": scene_contents.caption_languages,
    "pair": scene_contents.pair,
    "refer": scene_contents.refer,
    "video_caption": scene_contents.video_caption,
    "video_question": scene_contents.video_question,
}


def draw_contents(kind: str, *, seed: int | str, first: int, count: int) -> Iterator[Content]:
    """Contents number `first`, `first` + 1, ...

    The same arguments give the same contents; another number or seed gives another scene, none of which
    pre-training drew.

    Args:
        kind: one of `KINDS`.
        seed: of all of them; as text, it may name what they are for.
        first: from 1.
        count: how many.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(KINDS)}"
        raise ConfigError(f"there is no kind of miniature {kind!r}", hint=hint)
    for number in range(first, first + count):
        yield KINDS[kind](random.Random(f"miniature {kind} {seed} {number}"), number)
