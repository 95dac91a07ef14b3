"""Every place is worked out again from the scene, by other code than the one that wrote it."""

import random
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.scenes import TRAINING_THEME, random_contents, random_scene
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.targets import (
    MASK_SIZE,
    detect_rows,
    outermost,
    picture_mask,
    segment_rows,
    target_mask,
)

_BOX = re.compile(r"<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})> ([a-z ]+?)(?: ; |$)")


def _rows(make, number, count=None):
    rng = random.Random(3)
    for _ in range(number):
        scene = random_scene(rng, random_contents(rng, count or rng.randint(1, 4)), TRAINING_THEME)
        yield scene.left_to_right, make(scene.left_to_right, rng)


def _meant(words, objects):
    color = next((word for word in words.split() if word in COLORS), None)
    shape = next((word for word in words.split() if word in SHAPES), None)
    return [item for item in objects if color in (None, item.color) and shape in (None, item.shape)]


def _boxes(items):
    return [(item.box.y_min, item.box.x_min, item.box.y_max, item.box.x_max) for item in items]


def _answered(row):
    found = _BOX.findall(row.suffix)
    return [[int(number) / 1023 for number in answer[:4]] for answer in found], [a[4] for a in found]


def test_detect_rows_list_all_instances_of_all_names_from_left_to_right():
    names_seen, absent = set(), Counter()
    for objects, rows in _rows(detect_rows, 300):
        assert len(rows) in (1, 2)
        for row in rows:
            targets = row.prefix.removeprefix("detect ").split(" ; ")
            names_seen.add(len(targets))
            expected = [(item, target) for target in targets for item in _meant(target, objects)]
            expected.sort(key=lambda pair: pair[0].center[0])
            boxes, labels = _answered(row)
            assert labels == [target for _, target in expected]
            assert len({id(item) for item, _ in expected}) == len(expected) > 0
            absent[row.kind] += any(not _meant(target, objects) for target in targets)
            for box, truth in zip(boxes, _boxes(item for item, _ in expected), strict=True):
                assert box == pytest.approx(truth, abs=0.0005)
    assert names_seen == {1, 2, 3}
    assert absent.pop("detect_several") > 15
    assert not any(absent.values())


def _referred(words, objects):
    """The objects that "the left red circle" or "red circle" means."""
    meant = _meant(words, objects)
    keys = {
        "left": lambda item: item.center[0],
        "right": lambda item: -item.center[0],
        "top": lambda item: item.center[1],
        "bottom": lambda item: -item.center[1],
    }
    side = words.split()[1] if words.startswith("the ") else None
    return [min(meant, key=keys[side])] if side else meant


def test_segment_rows_mean_the_objects_that_a_reader_would_point_at():
    kinds = set()
    for objects, rows in _rows(segment_rows, 300):
        assert 0 <= len(rows) <= 4
        for row in rows:
            kinds.add(row.kind)
            words = row.prefix.removeprefix("segment ")
            items = _referred(words, objects)
            boxes, labels = _answered(row)
            assert labels == [words] * len(items)
            assert len(row.targets) == len(items) <= 2
            for box, target, truth in zip(boxes, row.targets, items, strict=True):
                assert box == pytest.approx(_boxes([truth])[0], abs=0.0005)
                assert target.outline is truth.outline
    assert kinds == {"segment_shape", "segment_object", "refer"}


def test_nobody_is_outermost_by_a_hair():
    for objects, _ in _rows(segment_rows, 200, count=3):
        for side, axis in (("left", 0), ("right", 0), ("top", 1), ("bottom", 1)):
            first = outermost(objects, side)
            others = [item for item in objects if item is not first]
            if first is not None:
                gaps = [abs(item.center[axis] - first.center[axis]) for item in others]
                assert min(gaps) >= (0.08, 0.12)[axis]


def test_the_mask_of_a_target_is_its_outline_inside_its_box():
    """Against the whole picture drawn large and cut out."""
    size = 1200
    for _, rows in _rows(segment_rows, 30):
        for target in (target for row in rows for target in row.targets):
            picture = Image.fromarray(picture_mask(target, size).astype(np.uint8) * 255)
            box = target.box
            corners = [round(v * size) for v in (box.x_min, box.y_min, box.x_max, box.y_max)]
            cut = picture.crop(corners).resize((MASK_SIZE, MASK_SIZE), Image.Resampling.BOX)
            mask, wanted = target_mask(target), np.asarray(cut)
            assert mask.shape == (64, 64)
            assert mask.dtype == np.uint8
            both, either = ((mask > 127) & (wanted > 127)).sum(), ((mask > 127) | (wanted > 127)).sum()
            assert both / either > 0.97
