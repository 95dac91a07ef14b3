from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.data.readers.records import VideoPart


def test_readers_and_parts_of_videos_compare_by_value() -> None:
    assert JsonRecords(file="a.json") == JsonRecords(file="a.json")
    assert VideoPart("a", end=2.0) != VideoPart("a")
