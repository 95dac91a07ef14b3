from paligemma2.evaluation.targets import AnyOrder, Choice, Field, ObjectTokens, Text


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


def test_empty_answers_can_be_left_out() -> None:
    fields = {"answers": [{"answer": ""}, {"answer": "b"}]}
    assert Field("answers", item="answer", skip_empty=True)(fields) == ("b",)
    assert Field("answers", item="answer")(fields) == ("", "b")


def test_a_text_of_fields() -> None:
    assert Text("The answer is {letter}.")({"letter": "B"}) == ("The answer is B.",)


def test_the_right_option() -> None:
    assert Choice("choices", "right")({"choices": ["a", "b"], "right": 1}) == ("b",)


def test_lists_come_in_every_order() -> None:
    target = AnyOrder(Field("answers", lower=True))
    assert target({"answers": ["A, b", "c"]}) == ("a, b", "b, a", "c")
    assert len(target({"answers": ["1, 2, 3, 4"]})) == 24
    long = ", ".join("abcdefghi")
    assert target({"answers": [long]}) == (long,)
