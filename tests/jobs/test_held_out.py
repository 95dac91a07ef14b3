from pathlib import Path

import pytest

from paligemma2.inference.loading import load
from paligemma2.jobs.held_out import answers, metric_of
from paligemma2.types import Example
from tests.small_model import save_picture, save_small_model

BOX = "<loc0100><loc0200><loc0300><loc0400> cat"
OTHER_BOX = "<loc0100><loc0200><loc0300><loc0600> cat"


def example(suffix: str, image: Path | str = "none.png", prefix: str = "what is this ?") -> Example:
    return Example(images=(image,), prefix=prefix, suffix=suffix)


def test_answers_come_in_the_order_of_the_examples_however_many_batches_they_are(tmp_path: Path) -> None:
    predictor = load(save_small_model(tmp_path / "model"), device="cpu")
    pictures = [save_picture(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    examples = [
        example("", pictures[i % 3], ("caption en", "ocr", "what is this ?")[i % 7 % 3]) for i in range(20)
    ]
    found = answers(predictor, examples, 5)
    alone = [predictor.generate(each.images, each.prefix, 5)[0].text for each in examples]
    assert found == alone
    assert len(set(found)) > 2


def test_answers_of_words_are_compared_to_the_letter() -> None:
    metric, score = metric_of([example("a cat"), example("a dog")])
    assert metric == "exact match"
    assert score(["a cat", "a dog"]) == 1
    assert score(["a cat", "A dog"]) == 0.5


def test_answers_of_boxes_alone_are_compared_by_their_overlap() -> None:
    metric, score = metric_of([example(BOX), example(BOX)])
    assert metric == "mean box IoU"
    assert score([BOX, BOX]) == 1
    assert score([BOX, OTHER_BOX]) == pytest.approx(0.75, abs=0.01)
    assert metric_of([example(BOX), example("nothing")])[0] == "exact match"
