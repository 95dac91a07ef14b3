import numpy as np
import pytest

from paligemma2.errors import InputError
from paligemma2.processing.coco_masks import coco_mask
from paligemma2.processing.masks import rle_to_mask

pycocotools = pytest.importorskip("pycocotools.mask")


def theirs(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    runs = pycocotools.frPyObjects(polygons, height, width)
    return rle_to_mask(pycocotools.merge(runs))


@pytest.mark.parametrize("seed", range(60))
def test_masks_equal_those_of_cocos_own_code(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 90, 2))
    polygons = []
    for _ in range(int(rng.integers(1, 4))):
        points = rng.uniform(0, 1, (int(rng.integers(3, 30)), 2)) * (width, height)
        if seed % 3 == 0:  # an outline that goes around, as people draw them
            points = points[np.argsort(np.arctan2(*(points - points.mean(axis=0)).T))]
        if seed % 4 == 0:
            points = points.round()
        points = np.concatenate([points, points[-1:]]) if seed % 5 == 0 else points
        polygons.append(points.round(2).reshape(-1).tolist())
    assert (coco_mask(polygons, height, width) == theirs(polygons, height, width)).all()


def test_a_polygon_at_the_edges_of_the_picture() -> None:
    whole = [0.0, 0.0, 12.0, 0.0, 12.0, 8.0, 0.0, 8.0]
    assert coco_mask([whole], 8, 12).all()
    beyond = [5.0, 2.0, 30.0, 2.0, 30.0, 40.0, 5.0, 40.0]
    assert (coco_mask([beyond], 8, 12) == theirs([beyond], 8, 12)).all()


def test_what_is_no_polygon_is_refused() -> None:
    for polygon in ([1.0, 2.0, 3.0, 4.0], [1.0] * 7, [float("nan")] * 6, [0.0, 0.0, 1e9, 0.0, 1.0, 1.0]):
        with pytest.raises(InputError, match="not a polygon"):
            coco_mask([polygon], 4, 4)
    assert not coco_mask([], 4, 4).any()
