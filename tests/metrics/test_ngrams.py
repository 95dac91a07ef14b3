from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.errors import InputError
from paligemma2.metrics.ngrams import check_references, read_corpus

CAPTION = st.lists(st.sampled_from("abc"), max_size=7).map(" ".join)
CORPUS = st.lists(st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=3)), min_size=1, max_size=4)


def count(caption: str, length: int) -> Counter[str]:
    words = caption.split()
    return Counter(" ".join(words[begin : begin + length]) for begin in range(len(words) - length + 1))


@given(CORPUS)
def test_ngrams_are_counted_as_one_by_one(corpus: list[tuple[str, list[str]]]) -> None:
    predictions = [prediction for prediction, _ in corpus]
    references = [captions for _, captions in corpus]
    read = read_corpus(predictions, references)
    flat = [(image, caption) for image, captions in enumerate(references) for caption in captions]
    assert read.image_of_reference.tolist() == [image for image, _ in flat]
    assert read.lengths.tolist() == [len(caption.split()) for caption in predictions]
    for length, ngrams in enumerate(read.ngrams, start=1):
        ours = [count(caption, length) for caption in predictions]
        theirs = [count(caption, length) for _, caption in flat]
        assert len(ngrams.image) == sum(map(len, ours))
        assert len(ngrams.reference) == sum(map(len, theirs))
        for number, counts in enumerate(ours):
            found = ngrams.count[ngrams.image == number]
            assert sorted(found) == sorted(counts.values())
        for number, (image, _) in enumerate(flat):
            is_here = ngrams.reference == number
            assert sorted(ngrams.reference_count[is_here]) == sorted(theirs[number].values())
            shared = ngrams.shared[is_here]
            assert sum(shared >= 0) == len(theirs[number].keys() & ours[image].keys())
            assert (ngrams.image[shared[shared >= 0]] == image).all()
            assert (ngrams.ngram[shared[shared >= 0]] == ngrams.reference_ngram[is_here][shared >= 0]).all()


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "0 captions"),
        (["a"], [], "1 captions cannot be scored against 0"),
        (["a", "b"], [["a"], []], r"image 1 are \[\]"),
        (["a"], ["a dog"], "image 0 are 'a dog'"),
    ],
)
def test_every_caption_needs_references(
    predictions: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_references(predictions, references)
