import random
import re
from collections import Counter, defaultdict

import pytest

from paligemma2.data.synthetic.pairs import pair_rows, random_pair, same_objects
from paligemma2.data.synthetic.scenes import OTHER_THEME, TRAINING_THEME

_ORDINALS = {"first": 0, "second": 1}


def _pairs(number, theme=TRAINING_THEME, seed=0):
    rng = random.Random(seed)
    for _ in range(number):
        first, second = random_pair(rng, (rng.randint(1, 3), rng.randint(1, 3)), theme)
        yield first.objects, second.objects, pair_rows(first, second, rng)


def _contents(objects):
    return sorted((item.color, item.shape) for item in objects)


def _answer(question, pictures):
    one, two = (_contents(objects) for objects in pictures)
    if question == "answer en do the two pictures show the same objects?":
        return "yes" if one == two else "no"
    if question == "answer en which picture has more objects?":
        assert len(one) != len(two)
        return "first" if len(one) > len(two) else "second"
    if question == "answer en what is new in the second picture?":
        return _new(one, pictures[1])
    if found := re.fullmatch(r"answer en which picture has an? (\w+) (\w+)\?", question):
        assert (found.groups() in one) != (found.groups() in two)
        return "first" if found.groups() in one else "second"
    if found := re.fullmatch(r"answer en what color is the (\w+) in the (\w+) picture\?", question):
        (item,) = [item for item in pictures[_ORDINALS[found[2]]] if item.shape == found[1]]
        return item.color
    found = re.fullmatch(r"answer en what shape is the (\w+) object in the (\w+) picture\?", question)
    (item,) = [item for item in pictures[_ORDINALS[found[2]]] if item.color == found[1]]
    return item.shape


def _new(before, after):
    new = [item for item in after if (item.color, item.shape) not in before]
    new.sort(key=lambda item: item.center[0])
    names = [f"{'an' if item.color == 'orange' else 'a'} {item.color} {item.shape}" for item in new]
    if len(names) > 1:
        names = [f"{', '.join(names[:-1])} and {names[-1]}"]
    return names[0] if names else "nothing"


@pytest.mark.parametrize("theme", [TRAINING_THEME, OTHER_THEME])
def test_every_answer_about_a_pair_is_true(theme):
    for first, second, rows in _pairs(300, theme):
        assert 1 <= len(rows) <= 4
        for row in rows:
            assert row.task == "pair"
            assert row.suffix == _answer(row.prefix, (first, second)), row


def test_guessing_the_most_common_answer_is_a_weak_baseline():
    answers = defaultdict(Counter)
    for _, _, rows in _pairs(1000, seed=1):
        for row in rows:
            answers[row.kind][row.suffix] += 1
    limits = {
        "pair_same": 0.58,
        "pair_which_has": 0.6,
        "pair_more": 0.6,
        "pair_color": 0.2,
        "pair_shape": 0.22,
    }
    assert set(answers) == set(limits)
    for kind, counts in answers.items():
        assert counts.total() > 100, kind
        assert counts.most_common(1)[0][1] / counts.total() < limits[kind], kind


def test_many_unequal_pairs_differ_in_one_object_only():
    differences = Counter()
    for first, second, _ in _pairs(300, seed=2):
        if not same_objects(first, second) and len(first) == len(second):
            missing = Counter(_contents(first)) - Counter(_contents(second))
            differences[missing.total()] += 1
    assert differences[1] / differences.total() > 0.5
