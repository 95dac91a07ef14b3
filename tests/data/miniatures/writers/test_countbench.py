from paligemma2.data.readers.countbench import CountBenchRecords
from paligemma2.processing.image import open_image
from tests.data.miniatures.round_trip import round_trip


def test_pictures_and_numbers_are_in_the_table(tmp_path):
    ((contents, records),) = round_trip(tmp_path, "count", CountBenchRecords())
    for content, record in zip(contents, records, strict=True):
        asked = content.asked[0]
        assert (record.fields["question"], record.fields["number"]) == (asked.question, int(asked.answer))
        (picture,) = record.pictures
        assert open_image(picture).size == (112, 112)
