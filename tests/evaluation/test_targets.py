from paligemma2.evaluation.targets import Field, ObjectTokens


def test_a_field_is_one_answer() -> None:
    assert Field("answer")({"answer": 3}) == ("3",)


def test_a_list_gives_an_answer_for_each_item() -> None:
    assert Field("answers")({"answers": ["A", "b"]}) == ("A", "b")
    assert Field("answers", item="answer", lower=True)({"answers": [{"answer": "A"}]}) == ("a",)


def test_an_object_is_its_box_and_its_mask() -> None:
    fields = {"box": [0.0, 0.25, 0.5, 1.0]}
    box = "<loc0000><loc0256><loc0512><loc1023>"
    assert ObjectTokens()(fields) == (box,)
    assert ObjectTokens()({**fields, "codes": (7,) * 16}) == (box + "<seg007>" * 16,)
