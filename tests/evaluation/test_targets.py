from paligemma2.evaluation.targets import Field


def test_a_field_is_one_answer() -> None:
    assert Field("answer")({"answer": 3}) == ("3",)


def test_a_list_gives_an_answer_for_each_item() -> None:
    assert Field("answers")({"answers": ["A", "b"]}) == ("A", "b")
    assert Field("answers", item="answer", lower=True)({"answers": [{"answer": "A"}]}) == ("a",)
