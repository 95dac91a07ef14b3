"""Every answer is worked out again from the scene, by other code than the one that wrote it."""

import re
from collections import Counter, defaultdict

import pytest

from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.questions import place_of, stands
from paligemma2.data.synthetic.seeds import SPLITS
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.world import scene_of, scene_sample

_SINGULAR = {"crosses": "cross", **{f"{shape}s": shape for shape in SHAPES if shape != "cross"}}


def _meant(words, objects):
    """The objects that "red circle", "circle", "red" or "red object" can mean."""
    color, shape = None, None
    for word in words.split():
        color, shape = (word, shape) if word in COLORS else (color, word if word in SHAPES else shape)
    return [item for item in objects if color in (None, item.color) and shape in (None, item.shape)]


def _only(words, objects):
    (item,) = _meant(words, objects)
    return item


def _is_so(item, relation, other):
    (x, y), (other_x, other_y) = item.center, other.center
    return {"left of": x < other_x, "right of": x > other_x, "above": y < other_y, "below": y > other_y}[
        relation
    ]


def _place(item):
    x, y = item.center
    row, column = ("top", "", "bottom")[int(y * 3)], ("left", "", "right")[int(x * 3)]
    return f"{row} {column}".strip() or "center"


def _counted(words, objects):
    kind = words.removesuffix(" objects")
    if words == "objects":
        return len(objects)
    return len(_meant(_SINGULAR.get(kind, kind), objects))


def _answer(question, objects):
    """The answer that a careful reader of the scene gives."""
    relation = "left of|right of|above|below"
    rules = [
        (r"what color is the (.+)", lambda thing: _only(thing, objects).color),
        (r"what shape is (?:the )?(.+)", lambda thing: _only(thing, objects).shape),
        (r"how many (.+) are there", lambda words: str(_counted(words, objects))),
        (r"where is the (.+)", lambda thing: _place(_only(thing, objects))),
        (r"is there an? (.+)", lambda thing: "yes" if _meant(thing, objects) else "no"),
        (
            rf"is the (.+) ({relation}) the (.+)",
            lambda a, how, b: "yes" if _is_so(_only(a, objects), how, _only(b, objects)) else "no",
        ),
        (rf"what is ({relation}) the (.+)", lambda how, b: _what(how, _only(b, objects), objects)),
    ]
    for pattern, answer in rules:
        if found := re.fullmatch(rf"answer en {pattern}\?", question):
            return answer(*found.groups())
    raise AssertionError(f"no rule for {question!r}")


def _what(relation, other, objects):
    (item,) = [item for item in objects if item is not other and _is_so(item, relation, other)]
    return f"{item.color} {item.shape}"


def _samples(split, number, max_objects=3):
    for index in range(number):
        scene = scene_of(split, index, max_objects=max_objects)
        yield scene, scene_sample(split, index, size=16, max_objects=max_objects)


@pytest.mark.parametrize("max_objects", [1, 3, 4])
@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_about_a_scene_is_true(split, max_objects):
    for scene, sample in _samples(split, 120, max_objects):
        for row in sample.rows:
            if row.task == "vqa":
                assert row.suffix == _answer(row.prefix, scene.objects), row


def test_captions_name_everything_from_left_to_right():
    for scene, sample in _samples("train", 200):
        words = [
            word for word in re.findall("[a-z]+", sample.rows[0].suffix) if word not in ("a", "an", "and")
        ]
        in_order = sorted(scene.objects, key=lambda item: item.center[0])
        assert words == [word for item in in_order for word in (item.color, item.shape)]


def test_a_scene_has_one_caption_three_kinds_of_questions_and_one_or_two_detect_rows():
    for _, sample in _samples("train", 200):
        tasks = Counter(row.task for row in sample.rows)
        assert tasks["caption"] == 1
        assert tasks["vqa"] == len({row.kind for row in sample.rows if row.task == "vqa"}) == 3
        assert tasks["detect"] in (1, 2)


_MOST_OFTEN = {
    **dict.fromkeys(("color", "shape", "where"), 0.25),
    **dict.fromkeys(("relation", "exists"), 0.58),
    **dict.fromkeys(("count_all", "count_shape", "count_color"), 0.48),
    "what_relation": 0.1,
}


def test_guessing_the_most_common_answer_is_a_weak_baseline():
    answers = defaultdict(Counter)
    for _, sample in _samples("train", 1000):
        for row in sample.rows:
            if row.task == "vqa":
                answers[row.kind][row.suffix] += 1
    assert set(answers) == set(_MOST_OFTEN)
    for kind, counts in answers.items():
        assert counts.total() > 150, kind
        assert counts.most_common(1)[0][1] / counts.total() < _MOST_OFTEN[kind], kind


def test_nothing_is_asked_that_is_too_close_to_call():
    for scene, _ in _samples("train", 200):
        for item in scene.objects:
            if place_of(item) is not None:
                assert place_of(item) == _place(item)
                assert all(min(abs(v - 1 / 3), abs(v - 2 / 3)) >= 0.04 for v in item.center)
            assert stands(item, "left of", item) is None
