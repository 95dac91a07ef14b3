import numpy as np

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.textvqa import TextVqaRecords
from paligemma2.processing.image import open_image
from paligemma2.types import EditedPicture
from tests.data.miniatures.round_trip import questions, round_trip


def test_pictures_that_lie_on_their_side_are_turned_upright(tmp_path):
    reader = TextVqaRecords(file="TextVQA_0.5.1_val.json", rotations="rotations.csv")
    ((contents, records),) = round_trip(tmp_path, "read", reader)
    assert [(row.fields["question"], row.fields["answers"][0]) for row in records] == questions(contents)
    folder = DataFolder(tmp_path)
    turned = 0
    for content, record in zip(contents, records, strict=True):
        (picture,) = record.pictures
        turns = 0
        if isinstance(picture, EditedPicture):
            turned, turns, picture = turned + 1, picture.quarter_turns, picture.source
        lying = np.asarray(open_image(folder.image(picture)), dtype=int)
        assert np.abs(np.rot90(lying, turns) - content.pictures[0]).mean() < 12
    assert turned == 3
