from paligemma2.data.readers.nlvr import NlvrRecords
from tests.data.miniatures.round_trip import questions, round_trip


def test_statements_and_both_pictures_are_found(tmp_path):
    for contents, records in round_trip(
        tmp_path, "pair", NlvrRecords(file="train.json"), NlvrRecords(file="dev.json")
    ):
        assert [(row.fields["sentence"], row.fields["label"]) for row in records] == questions(contents)
        assert all(len(set(record.pictures)) == 2 for record in records)
