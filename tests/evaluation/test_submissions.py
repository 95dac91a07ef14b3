import json

import pytest

from paligemma2.errors import DataError, InputError
from paligemma2.evaluation.predictions import Prediction
from paligemma2.evaluation.submissions import WRITERS, check_submission, write_submission


def lines(*ids):
    return [
        Prediction(id=name, index=i, prompt="?", prediction=f"answer {i} ü", answers=())
        for i, name in enumerate(ids)
    ]


def written(tmp_path, kind, *ids, task="task"):
    path = tmp_path / "val.submission.json"
    write_submission(path, kind, task, lines(*ids), ids)
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("vqa", {"question_id": 7, "answer": "answer 0 ü"}),
        ("docvqa", {"questionId": 7, "answer": "answer 0 ü"}),
        ("stvqa", {"question_id": 7, "answer": "answer 0 ü"}),
        ("vizwiz", {"image": "7", "answer": "answer 0 ü"}),
        ("gqa", {"questionId": "7", "prediction": "answer 0 ü"}),
        ("caption", {"image_id": 7, "caption": "answer 0 ü"}),
    ],
)
def test_each_server_gets_its_own_keys_and_types(tmp_path, kind, entry):
    content = written(tmp_path, kind, "7", "8")
    assert content[0] == entry
    assert len(content) == 2


def test_pictures_that_are_called_in_letters_keep_all_names_as_texts(tmp_path):
    content = written(tmp_path, "caption", "1234567890123456", "0054c91397f2fe05")
    assert [entry["image_id"] for entry in content] == ["1234567890123456", "0054c91397f2fe05"]


def test_an_answer_of_aokvqa_says_which_kind_it_is(tmp_path):
    assert written(tmp_path, "aokvqa", "q1", task="aokvqa_da") == {"q1": {"direct_answer": "answer 0 ü"}}
    assert written(tmp_path, "aokvqa", "q1", task="aokvqa_mc") == {"q1": {"multiple_choice": "answer 0 ü"}}
    joined = {"q1": {"multiple_choice": "a", "direct_answer": "b"}}
    check_submission("aokvqa", joined, ["q1"])


@pytest.mark.parametrize("kind", WRITERS)
def test_a_question_without_an_answer_is_named_and_nothing_is_written(tmp_path, kind):
    path = tmp_path / "file.json"
    with pytest.raises(DataError, match="2 questions without an answer: 3, 4"):
        write_submission(path, kind, "t", lines("1", "2"), ["1", "2", "3", "4"])
    assert not path.exists()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_question_of_another_split_is_named(tmp_path, kind):
    with pytest.raises(DataError, match="1 questions that the split does not have: 2"):
        write_submission(tmp_path / "file.json", kind, "t", lines("1", "2"), ["1"])


def test_an_answer_too_many_is_named():
    twice = [{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "b"}]
    with pytest.raises(DataError, match="answered more than once: 1"):
        check_submission("vqa", twice, ["1"])


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("vqa", {"1": "a"}, "a dict is not a list"),
        ("vqa", [{"question_id": "1", "answer": "a"}], "question_id '1' is not a number"),
        ("vqa", [{"question_id": True, "answer": "a"}], "question_id True is not a number"),
        ("vqa", [{"question_id": 1, "answer": 3}], "the answer to 1: 3 is not a text"),
        ("vqa", [{"question_id": 1}], "entry 0"),
        ("vqa", [["1", "a"]], "entry 0"),
        ("vizwiz", [{"image": 1, "answer": "a"}], "image 1 is not a text"),
        ("caption", [{"image_id": None, "caption": "a"}], "image_id None is not a number"),
        ("aokvqa", [], "a list is not an object"),
        ("aokvqa", {"1": {}}, "question 1"),
        ("aokvqa", {"1": {"answer": "a"}}, "question 1"),
        ("aokvqa", {"1": {"direct_answer": None}}, "the answer to 1"),
    ],
)
def test_what_a_server_would_refuse_is_named(kind, content, message):
    with pytest.raises(DataError) as caught:
        check_submission(kind, content, ["1"])
    assert message in caught.value.message


def test_ids_that_must_be_numbers_are_checked(tmp_path):
    with pytest.raises(DataError, match="the id 'q1' is not a number"):
        write_submission(tmp_path / "file.json", "vqa", "t", lines("q1"), ["q1"])
    with pytest.raises(InputError, match="no submission format 'mail'"):
        check_submission("mail", [], [])
