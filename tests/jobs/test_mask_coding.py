import numpy as np

from paligemma2.checkpoint.mask_codec_files import load_mask_codec
from paligemma2.jobs.mask_coding import coding_of


def test_a_mask_comes_back_from_its_codes():
    windows = np.zeros((2, 64, 64), dtype=np.float32)
    windows[0, 16:48] = windows[1, :, 32:] = 1.0
    coding = coding_of(load_mask_codec())
    codes = coding.encode(windows)
    assert [len(each) for each in codes] == [16, 16]
    decoded = coding.decode(codes) > 0
    wanted = windows > 0.5
    for one, other in zip(decoded, wanted, strict=True):
        assert (one & other).sum() / (one | other).sum() > 0.9
