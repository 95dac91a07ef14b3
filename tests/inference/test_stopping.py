from hypothesis import example, given
from hypothesis import strategies as st

from paligemma2.inference.stopping import StopStrings

texts = st.text("ab;", max_size=12)
stops = st.lists(st.text("ab;", min_size=1, max_size=4), max_size=3)


def before_the_first(text, stop):
    return text[: min((place for each in stop if (place := text.find(each)) >= 0), default=len(text))]


@given(st.lists(texts, max_size=6), stops)
@example(["ab", "b"], ["bb", "b"])
def test_the_answer_ends_before_the_first_stop_text_however_it_is_cut_into_pieces(pieces, stop):
    watch, text, given_so_far = StopStrings(stop), "", ""
    for piece in pieces:
        text += piece
        given_so_far += watch.push(piece)
        assert before_the_first(text, stop).startswith(given_so_far)
        assert watch.is_found == any(each in text for each in stop)
        if watch.is_found:
            break
    assert given_so_far + watch.finish() == before_the_first(text, stop)
    assert watch.finish() == "", "nothing is given twice"


def test_only_what_may_begin_a_stop_text_is_held_back():
    watch = StopStrings(["END"])
    assert watch.push("a long text") == "a long te"
    assert watch.push(" E") == "xt"
    assert watch.push("ND more") == " "
    assert watch.is_found
    assert watch.push("even more") == ""


def test_without_stop_texts_pieces_pass_through():
    watch = StopStrings([])
    assert [watch.push(piece) for piece in ("a", "", "b;")] == ["a", "", "b;"]
    assert not watch.is_found
