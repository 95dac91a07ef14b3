from paligemma2.data.readers.stvqa import StVqaRecords
from tests.data.miniatures.round_trip import questions, round_trip


def test_the_list_tells_validation_from_training(tmp_path):
    readers = (
        StVqaRecords(file="train_task_3.json", part="train"),
        StVqaRecords(file="train_task_3.json", part="val"),
        StVqaRecords(file="test_task_3.json"),
    )
    for contents, records in round_trip(tmp_path, "read", *readers):
        assert [(row.fields["question"], row.fields["answers"][0]) for row in records] == questions(contents)
