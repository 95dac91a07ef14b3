from paligemma2.data.readers.ai2d import Ai2dRecords
from paligemma2.types import EditedPicture
from tests.data.miniatures.round_trip import questions, round_trip


def test_the_list_tells_the_test_from_the_rest(tmp_path):
    for contents, records in round_trip(
        tmp_path, "choice", Ai2dRecords(is_test=False), Ai2dRecords(is_test=True)
    ):
        found = {(row.unit, row.fields["question"]): row.fields["answer"] for row in records}
        assert len(found) == len(questions(contents))
        for content in contents:
            for asked in content.asked:
                assert found[f"{content.number}.png", asked.question] == asked.answer


def test_a_text_is_painted_over_in_some_diagrams(tmp_path):
    ((_, records),) = round_trip(tmp_path, "choice", Ai2dRecords(is_test=False), count=8)
    edited = {record.unit for record in records if isinstance(record.pictures[0], EditedPicture)}
    assert len(edited) == 2
