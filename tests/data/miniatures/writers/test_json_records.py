from paligemma2.data.miniatures.row_names import AnswerField, RowNames
from paligemma2.data.miniatures.words import MORE_ON_THE_LEFT
from paligemma2.data.readers.json_records import JsonRecords
from tests.data.miniatures.round_trip import captions, questions, round_trip


def test_the_reader_finds_every_question_where_it_looks(tmp_path):
    simple = JsonRecords(file="test.json", id="question_id", where={"simple": True})
    complex_ = JsonRecords(file="test.json", id="question_id", where={"simple": False})
    listed = JsonRecords(file="train.json", image="file", rows="data")
    for contents, records in round_trip(tmp_path, "count", simple, complex_, listed):
        assert [(row.fields["question"], str(row.fields["answer"])) for row in records] == questions(contents)
        assert all(isinstance(row.fields["answer"], int) for row in records)
        assert len({record.id for record in records}) == len(records)


def test_rows_may_have_names_or_lines(tmp_path):
    readers = (
        JsonRecords(file="a.json", layout="mapping", image="{image_id}.jpg"),
        JsonRecords(file="b.json", layout="lines", image="{image_id:012d}.png", id="number"),
    )
    for contents, records in round_trip(tmp_path, "question", *readers):
        assert [(row.fields["question"], row.fields["answer"]) for row in records] == questions(contents)
        assert all(record.id for record in records)


def test_fields_are_called_as_the_task_calls_them(tmp_path):
    answers = (AnswerField(name="answers", item="answer"), AnswerField(name="label"))
    names = RowNames(question="query", answers=answers)
    ((contents, records),) = round_trip(tmp_path, "question", JsonRecords(file="a.json"), names=names)
    assert [(row.fields["query"], row.fields["label"]) for row in records] == questions(contents)
    assert all(row.fields["answers"] == [{"answer": row.fields["label"]}] * 10 for row in records)


def test_choices_come_with_the_place_of_the_right_one(tmp_path):
    reader = JsonRecords(file="a.json", choices="choices")
    ((contents, records),) = round_trip(tmp_path, "choice", reader)
    for record, (_, answer) in zip(records, questions(contents), strict=True):
        assert record.fields["choices"][record.fields["correct_choice_idx"]] == answer
        assert answer in record.fields["options"]


def test_pairs_are_true_or_false_in_the_language_of_the_file(tmp_path):
    images = tuple(f"/{{language}}/images/{{concept}}/{{{side}_img}}" for side in ("left", "right"))
    reader = JsonRecords(file="marvl-sw.jsonl", layout="lines", image=images)
    names = RowNames(question="caption", answers=(AnswerField(name="label"),))
    ((contents, records),) = round_trip(tmp_path, "pair", reader, names=names)
    assert [str(row.fields["label"]) for row in records] == [answer for _, answer in questions(contents)]
    assert {row.fields["label"] for row in records} == {True, False}
    assert {row.fields["caption"] for row in records} == {MORE_ON_THE_LEFT["sw"]}
    assert all(len(set(record.pictures)) == 2 for record in records)


def test_pictures_may_be_described_without_questions(tmp_path):
    names = RowNames(answers=(AnswerField(name="captions"),))
    ((contents, records),) = round_trip(
        tmp_path, "caption_languages", JsonRecords(file="a.json"), names=names
    )
    assert [row.fields["captions"] for row in records] == captions(contents)
