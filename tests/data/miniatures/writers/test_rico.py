import numpy as np

from paligemma2.data.readers.rico import ScreenSummaries, WidgetCaptions
from tests.data.miniatures.round_trip import captions, round_trip


def test_screens_have_their_summaries(tmp_path):
    readers = [ScreenSummaries(split=f"split/{split}_screens.txt") for split in ("train", "test")]
    for contents, records in round_trip(tmp_path, "caption", *readers):
        assert [row.fields["captions"] for row in records] == captions(contents)


def test_the_box_is_around_the_part_that_the_caption_names(tmp_path):
    readers = [WidgetCaptions(split=f"split/{split}.txt") for split in ("train", "test")]
    for contents, records in round_trip(tmp_path, "caption", *readers):
        targets = [target for content in contents for target in content.objects]
        assert len(records) == len(targets)
        for record, target in zip(records, targets, strict=True):
            assert record.fields["captions"][0] == target.label
            drawn, box = record.pictures[0].outline, target.box
            for name in ("y_min", "x_min", "y_max", "x_max"):
                assert np.isclose(getattr(drawn, name), getattr(box, name), atol=1e-3)
