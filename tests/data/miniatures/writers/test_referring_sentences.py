import numpy as np

from paligemma2.data.miniatures.content import SIDE
from paligemma2.data.miniatures.kinds import draw_contents
from paligemma2.data.miniatures.write import write_miniature
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.referring_sentences import (
    ReferringFiles,
    ReferringPictures,
    ReferringSentences,
)
from paligemma2.data.synthetic.targets import picture_mask
from paligemma2.processing.masks import rle_to_mask

ONE, TWO = ReferringFiles("refcoco", "unc"), ReferringFiles("refcocog", "umd")


def test_sentences_boxes_and_masks_are_found_again(tmp_path):
    train, val = ReferringPictures(files=(ONE, TWO)), ReferringSentences(files=ONE, split="val")
    test = ReferringSentences(files=TWO, split="test")
    contents = [list(draw_contents("refer", seed=0, first=1 + 100 * i, count=3)) for i in range(3)]
    write_miniature(tmp_path, zip((train, val, test), contents, strict=True))
    folder = DataFolder(tmp_path)
    for reader, drawn in ((val, contents[1]), (test, contents[2])):
        records = {record.fields["sentence"] + record.unit: record for record in reader.read(folder)}
        targets = [(content, target) for content in drawn for target in content.objects]
        assert len(records) == len(targets)
        for content, target in targets:
            fields = records[target.label + str(content.number)].fields
            box = target.box
            assert np.allclose(fields["box"], [box.y_min, box.x_min, box.y_max, box.x_max])
            read, drawn_mask = rle_to_mask(fields["mask"]), picture_mask(target, SIDE)
            assert (read & drawn_mask).sum() / (read | drawn_mask).sum() > 0.85
    assert [record.unit for record in train.read(folder)] == ["1", "2", "3"]
