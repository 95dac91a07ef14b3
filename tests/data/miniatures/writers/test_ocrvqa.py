from paligemma2.data.readers.ocrvqa import OcrVqaRecords
from tests.data.miniatures.round_trip import questions, round_trip


def test_the_books_of_all_splits_are_in_one_file(tmp_path):
    readers = [OcrVqaRecords(split=split) for split in (1, 2, 3)]
    for contents, records in round_trip(tmp_path, "read", *readers):
        assert [(row.fields["question"], row.fields["answer"]) for row in records] == questions(contents)
    assert [path.name for path in tmp_path.glob("*.json")] == ["dataset.json"]
