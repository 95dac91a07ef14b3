from paligemma2.data.miniatures.kinds import draw_contents
from paligemma2.data.miniatures.write import write_miniature
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_records import JsonRecords


def test_the_reader_finds_every_question_where_it_looks(tmp_path):
    simple = JsonRecords(file="test.json", id="question_id", where={"simple": True})
    complex_ = JsonRecords(file="test.json", id="question_id", where={"simple": False})
    listed = JsonRecords(file="train.json", image="file", rows="data")
    contents = [list(draw_contents("count", seed=0, first=1 + 100 * i, count=4)) for i in range(3)]
    write_miniature(tmp_path, zip((simple, complex_, listed), contents, strict=True))
    folder = DataFolder(tmp_path)
    for reader, drawn in zip((simple, complex_, listed), contents, strict=True):
        records = list(reader.read(folder))
        asked = [asked for content in drawn for asked in content.asked]
        assert [(row.fields["question"], row.fields["answer"]) for row in records] == [
            (each.question, each.answer) for each in asked
        ]
        assert all(folder.image(record.pictures[0]) for record in records)
        assert len({record.id for record in records}) == len(records)
