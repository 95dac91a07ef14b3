from paligemma2.data.readers.rsvqa import RsvqaRecords
from tests.data.miniatures.round_trip import questions, round_trip


def test_questions_of_both_types_have_answers(tmp_path):
    readers = [
        RsvqaRecords(split=f"LR_split_{split}", image=".tif", without=("count",)) for split in ("val", "test")
    ]
    for contents, records in round_trip(tmp_path, "yes_no", *readers):
        assert [(row.fields["question"], row.fields["answer"]) for row in records] == questions(contents)
        found = {(row.fields["type"], row.fields["answer"]) for row in records}
        assert found == {(kind, answer) for kind in ("comp", "presence") for answer in ("yes", "no")}
