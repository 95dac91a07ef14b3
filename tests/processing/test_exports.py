import json
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO

from paligemma2.errors import InputError, MissingExtra
from paligemma2.processing.exports import to_coco_results, to_dicts, to_roboflow_row, to_supervision
from paligemma2.processing.masks import polygons_to_mask, rle_to_mask
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.prompts import detect
from paligemma2.types import Box, Detection

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns when OpenCV is not installed
    import supervision

HEIGHT, WIDTH = 40, 80
CODES = tuple(range(16))


def disc():
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    return (y - 20) ** 2 + (x - 30) ** 2 < 100


CAT = Detection(label="cat", box=Box(y_min=0.25, x_min=0.25, y_max=0.75, x_max=0.5), score=0.75, codes=CODES)
CAT_WITH_MASK = replace(CAT, mask=disc())
DOG = Detection(label="dog", box=Box(y_min=0.0, x_min=0.5, y_max=0.5, x_max=1.0))


def test_dictionaries_hold_all_that_is_known_and_are_json():
    cat, dog = json.loads(json.dumps(to_dicts([CAT_WITH_MASK, DOG], HEIGHT, WIDTH)))
    assert np.array_equal(rle_to_mask(cat.pop("mask")), CAT_WITH_MASK.mask)
    assert cat == {
        "label": "cat",
        "score": 0.75,
        "box": {"y_min": 0.25, "x_min": 0.25, "y_max": 0.75, "x_max": 0.5},
        "pixels": {"y_min": 10.0, "x_min": 20.0, "y_max": 30.0, "x_max": 40.0},
        "codes": list(CODES),
    }
    assert (dog["score"], dog["codes"], dog["mask"]) == (None, [], None)


def test_dictionaries_hold_polygons_on_request():
    cat, dog = json.loads(json.dumps(to_dicts([CAT_WITH_MASK, DOG], HEIGHT, WIDTH, masks="polygons")))
    assert np.array_equal(polygons_to_mask([np.array(ring) for ring in cat["mask"]], HEIGHT, WIDTH), disc())
    assert dog["mask"] is None


def test_coco_reads_the_results():
    results = to_coco_results(
        [CAT_WITH_MASK, DOG], HEIGHT, WIDTH, image_id=7, category_ids={"cat": 17, "dog": 18}
    )
    annotations = COCO()
    annotations.dataset = {
        "info": {},
        "images": [{"id": 7, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [],
    }
    annotations.createIndex()
    loaded = annotations.loadRes(results)
    cat, dog = loaded.loadAnns(loaded.getAnnIds(imgIds=[7]))
    assert (cat["category_id"], cat["bbox"], cat["score"]) == (17, [20.0, 10.0, 20.0, 20.0], 0.75)
    assert (dog["category_id"], dog["bbox"], dog["score"]) == (18, [40.0, 0.0, 40.0, 20.0], 1.0)
    assert np.array_equal(rle_to_mask(cat["segmentation"]), disc())
    assert "segmentation" not in to_coco_results([DOG], HEIGHT, WIDTH, image_id=7, category_ids={"dog": 1})[0]
    assert json.loads(json.dumps(results)) == results


def test_a_label_that_is_no_category_is_refused():
    with pytest.raises(InputError, match=r"'dog' is none of the 1 classes \(first: 'cat'\)"):
        to_coco_results([DOG], HEIGHT, WIDTH, image_id=1, category_ids={"cat": 1})
    with pytest.raises(InputError, match="'dog' is none of the 1 classes"):
        to_supervision([DOG], HEIGHT, WIDTH, class_names=["cat"])


@pytest.mark.parametrize("export", [to_dicts, to_supervision])
def test_a_mask_of_another_picture_is_refused(export):
    with pytest.raises(InputError, match=r"the mask of 'cat' is \[40, 80\], the picture 80 × 40"):
        export([CAT_WITH_MASK], WIDTH, HEIGHT)


def test_a_roboflow_row_is_read_back():
    row = to_roboflow_row("a.jpg", detect("cat", "dog"), [CAT, DOG])
    assert (row["image"], row["prefix"]) == ("a.jpg", "detect cat ; dog")
    found = parse_answer(row["suffix"]).detections
    assert [(item.label, item.codes) for item in found] == [("cat", CODES), ("dog", ())]


def test_supervision_gets_corners_labels_scores_and_masks():
    exported = to_supervision([CAT_WITH_MASK, replace(CAT_WITH_MASK, label="tom")], HEIGHT, WIDTH)
    assert exported.xyxy.dtype == np.float32
    assert exported.xyxy.tolist() == [[20.0, 10.0, 40.0, 30.0]] * 2
    assert exported.class_id.tolist() == [0, 1]
    assert exported.confidence.tolist() == [0.75, 0.75]
    assert exported.data["class_name"].tolist() == ["cat", "tom"]
    assert exported.mask.dtype == np.bool_
    assert np.array_equal(exported.mask, np.stack([disc()] * 2))


def test_supervision_gets_scores_and_masks_only_if_all_objects_have_them():
    exported = to_supervision([CAT_WITH_MASK, DOG], HEIGHT, WIDTH)
    assert (exported.confidence, exported.mask) == (None, None)


def test_class_ids_follow_the_names_given():
    exported = to_supervision([CAT, DOG, CAT], HEIGHT, WIDTH, class_names=["dog", "bird", "cat"])
    assert exported.class_id.tolist() == [2, 0, 2]


def test_supervision_takes_no_objects():
    exported = to_supervision([], HEIGHT, WIDTH)
    assert len(exported) == 0
    assert exported.xyxy.shape == (0, 4)


def test_supervision_agrees_with_its_own_reader():
    text = "<loc0256><loc0256><loc0512><loc0768> cat ; <loc0000><loc0100><loc0200><loc0300> red dog"
    theirs = supervision.Detections.from_vlm(
        supervision.VLM.PALIGEMMA, text, resolution_wh=(WIDTH, HEIGHT), classes=["red dog", "cat"]
    )
    ours = to_supervision(
        parse_answer(text, divisor=1024).detections, HEIGHT, WIDTH, class_names=["red dog", "cat"]
    )
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy)
    assert ours.class_id.tolist() == theirs.class_id.tolist()
    assert ours.data["class_name"].tolist() == theirs.data["class_name"].tolist()


def test_without_supervision_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtra, match="pip install supervision"):
        to_supervision([CAT], HEIGHT, WIDTH)
