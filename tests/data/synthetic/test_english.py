from paligemma2.data.synthetic.english import ENGLISH_WORDS


def test_the_words_are_three_to_six_capitals_without_repeats():
    assert len(set(ENGLISH_WORDS)) == len(ENGLISH_WORDS) > 400
    assert all(3 <= len(word) <= 6 and word.isalpha() and word.isupper() for word in ENGLISH_WORDS)
