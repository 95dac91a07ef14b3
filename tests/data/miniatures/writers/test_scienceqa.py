from paligemma2.data.readers.scienceqa import ScienceQaRecords
from tests.data.miniatures.round_trip import questions, round_trip


def test_the_letter_is_that_of_the_answer(tmp_path):
    readers = [ScienceQaRecords(split="train", orders=3), ScienceQaRecords(split="test")]
    for contents, records in round_trip(tmp_path, "choice", *readers):
        assert [row.fields["question"] for row in records] == [each for each, _ in questions(contents)]
        for record, (_, answer) in zip(records, questions(contents), strict=True):
            assert f"({record.fields['letter']}) {answer}" in record.fields["options"]
        assert {row.fields["context"] for row in records} == {"N/A", "Look at the picture."}
