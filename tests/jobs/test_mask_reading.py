import numpy as np

from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.jobs.mask_reading import coding_of, reading_masks
from paligemma2.metrics.scores import Reference
from paligemma2.metrics.segmentation import SEGMENTATION_IOU, mask_meta

SIZE = 96


def disc():
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (rows - SIZE / 2) ** 2 + (columns - SIZE / 2) ** 2 < (SIZE / 2) ** 2


def test_codes_that_were_made_of_a_mask_score_nearly_as_well_as_the_mask():
    coding = coding_of(load_mask_codec().codec)
    rows, columns = np.mgrid[:64, :64]
    inside = ((rows - 31.5) ** 2 + (columns - 31.5) ** 2 < 32**2).astype(np.float32)
    (codes,) = coding.encode(inside[None])
    assert coding.decode([codes]).shape == (1, 64, 64)
    answer = "<loc0000><loc0000><loc1023><loc1023>" + "".join(f"<seg{code:03}>" for code in codes)
    metric = reading_masks("default")(SEGMENTATION_IOU)
    reference = Reference(meta=mask_meta(disc()))
    assert metric([answer], [reference]).value > 0.9
    assert metric(["no mask"], [reference]).value == 0.0
