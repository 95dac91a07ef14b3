from paligemma2.data.miniatures.row_names import AnswerField, RowNames


def test_a_plural_holds_a_list():
    assert AnswerField(name="direct_answers").is_list
    assert not AnswerField(name="label").is_list


def test_questions_and_answers_are_called_so_if_nothing_is_said():
    assert (RowNames().question, [each.name for each in RowNames().answers]) == ("question", ["answer"])
