from paligemma2.data.readers.question_records import QuestionRecords
from tests.data.miniatures.round_trip import questions, round_trip

VAL = QuestionRecords(questions="q.json", annotations="a.json", image="COCO_val2014_{image_id:012d}.jpg")
TEST = QuestionRecords(questions="t.json", image="COCO_test2015_{image_id:012d}.jpg")


def test_questions_come_with_ten_answers_where_these_are_known(tmp_path):
    known, unknown = round_trip(tmp_path, "count", VAL, TEST)
    contents, records = known
    assert [(row.fields["question"], row.fields["multiple_choice_answer"]) for row in records] == questions(
        contents
    )
    for row in records:
        assert [each["answer"] for each in row.fields["answers"]] == [
            row.fields["multiple_choice_answer"]
        ] * 10
        assert row.fields["answer_type"] == "number"
    assert len(unknown[1]) == len(questions(unknown[0]))
    assert not any("answers" in row.fields for row in unknown[1])
