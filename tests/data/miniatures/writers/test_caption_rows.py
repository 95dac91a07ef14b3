from paligemma2.data.readers.caption_rows import CaptionRows
from tests.data.miniatures.round_trip import captions, round_trip


def test_captions_of_a_picture_are_found_together(tmp_path):
    readers = (CaptionRows(file="train.json"), CaptionRows(file="val.json", rows="rows", image="name"))
    for contents, records in round_trip(tmp_path, "caption", *readers):
        assert [row.fields["caption_str"] for row in records] == captions(contents)
