import pytest

from paligemma2.errors import InputError
from paligemma2.metrics.bleu import bleu
from paligemma2.metrics.caption import CIDER, tokenize_references
from paligemma2.metrics.scores import Reference

PREDICTIONS = ["A dog runs on the grass.", "Two cats, asleep!"]
REFERENCES = [
    Reference(answers=("A dog is running on grass.", "The dog runs.")),
    Reference(answers=("Two cats asleep",)),
]


def test_cider_reads_tokens_and_its_value_is_the_mean_of_its_values() -> None:
    scores = CIDER(PREDICTIONS, REFERENCES)
    assert scores.value == pytest.approx(sum(scores.values) / 2)
    assert scores.values[1] == pytest.approx(7.5)  # three words: there is no sequence of four
    assert CIDER(["a dog runs on the grass", "TWO CATS ASLEEP ..."], REFERENCES).values == scores.values


def test_bleu_and_rouge_stand_beside_it() -> None:
    scores = CIDER(PREDICTIONS, REFERENCES)
    assert list(scores.parts) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"]
    expected = bleu(
        ["a dog runs on the grass", "two cats asleep"],
        [["a dog is running on grass", "the dog runs"], ["two cats asleep"]],
    )
    assert [scores.parts[f"BLEU-{length}"] for length in (1, 2, 3, 4)] == list(expected.corpus)
    assert 0.5 < scores.parts["ROUGE-L"] < 1


def test_both_modes_are_one_rule() -> None:
    assert CIDER(PREDICTIONS, REFERENCES, "official") == CIDER(PREDICTIONS, REFERENCES)


def test_references_of_all_images_are_read_as_one_text() -> None:
    assert tokenize_references([["Vitamin C."], ["The end", "x"]]) == [["vitamin c"], ["the end", "x"]]


def test_an_image_without_references_is_an_error() -> None:
    with pytest.raises(InputError, match="image 1"):
        CIDER(PREDICTIONS, [REFERENCES[0], Reference()])


def test_a_sentence_in_another_language_is_one_word_where_it_has_no_spaces() -> None:
    references = [Reference(answers=("一只狗",)), Reference(answers=("一只猫",))]
    assert CIDER(["一只狗。", "一只鸟"], references).values == pytest.approx(
        (2.5 * 2**-0.5 * 0.98621, 0), rel=1e-4
    )
