import logging
import math
from dataclasses import dataclass, field, replace

import pytest

from paligemma2.errors import InputError
from paligemma2.inference.search import Search, find_objects
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Generation

GROUPS = (("cat", "dog"), ("bird",), ("red fish", "é🦩"))
BOX = "<loc0100><loc0200><loc0300><loc0400>"


@dataclass
class Recorder:
    """A model that is asked, with everything it was asked."""

    model: object
    asked: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def generate(self, images, prompts, max_new_tokens, *, constraints):
        self.asked.append((list(images), list(prompts), max_new_tokens, list(constraints)))
        return self.model.generate(images, prompts, max_new_tokens, constraints=constraints)


@dataclass
class Scripted(Recorder):
    """Answers what it is told by prompt, through the model's own tokenizer."""

    answers: dict = field(default_factory=dict)

    def generate(self, images, prompts, max_new_tokens, *, constraints):
        self.asked.append((list(images), list(prompts), max_new_tokens, list(constraints)))
        return [self._generation(self.answers[prompt]) for prompt in prompts]

    def _generation(self, text):
        ids = tuple(self.processor.tokenizer.encode(text, allow_locations=True))
        logs = (math.log(0.5),) * len(ids)
        return Generation(
            text=text,
            token_ids=ids,
            finish_reason="stop",
            num_prompt_tokens=9,
            log_probs=logs,
            location_log_probs=logs,
        )


def search(**settings) -> Search:
    usual = {"form": "detect", "groups": GROUPS, "constrained": False, "batch_size": 4, "max_new_tokens": 24}
    return Search(**(usual | settings))


def without_scores(found):
    """Sums over a batch of another size differ in their last bits."""
    return [[replace(each, score=None) for each in objects] for objects in found]


def test_every_picture_is_asked_every_prompt_and_gets_its_own_objects(model, pictures) -> None:
    answers = {
        "detect cat ; dog": f"{BOX} dog ; {BOX} cat",
        "detect bird": "",
        "detect red fish ; é🦩": f"{BOX} é🦩 ; <loc0001> broken",
    }
    asked = Scripted(model, answers=answers)
    found = list(find_objects(asked, [(picture,) for picture in pictures], search(batch_size=2)))
    assert [[each.label for each in objects] for objects in found] == [["dog", "cat", "é🦩"]] * 4
    assert [each.score for objects in found for each in objects] == pytest.approx([0.5**5] * 12)
    pairs = [pair for images, texts, *_ in asked.asked for pair in zip(images, texts, strict=True)]
    assert pairs == [((picture,), prompt) for picture in pictures for prompt in answers]
    assert max(len(images) for images, *_ in asked.asked) == 2


@pytest.mark.parametrize("form", ["detect", "segment"])
def test_the_batch_size_changes_nothing(model, pictures, form) -> None:
    entries = [(picture,) for picture in pictures]
    results = []
    for batch_size in (1, 5, 64):
        wanted = search(form=form, batch_size=batch_size, constrained=True, max_new_tokens=48)
        results.append(list(find_objects(model, entries, wanted)))
    first, *others = results
    assert any(first)
    for other in others:
        assert without_scores(other) == without_scores(first)
        for objects, same in zip(first, other, strict=True):
            scores = [each.score for each in objects]
            assert [each.score for each in same] == pytest.approx(scores, rel=1e-4)


@pytest.mark.parametrize(("form", "num_codes"), [("detect", 0), ("segment", 16)])
def test_constrained_answers_are_whole_and_their_labels_of_the_prompt(
    model, pictures, form, num_codes
) -> None:
    asked = Recorder(model)
    (found,) = find_objects(asked, [(pictures[0],)], search(form=form, constrained=True, max_new_tokens=48))
    assert found
    assert {each.label for each in found} <= {label for group in GROUPS for label in group}
    assert {len(each.codes) for each in found} == {num_codes}
    for images, prompts, limit, constraints in asked.asked:
        for answer in model.generate(images, prompts, limit, constraints=constraints):
            assert parse_answer(answer.text).problems == ()
            assert answer.finish_reason == "stop"


def test_pictures_are_read_as_they_are_needed(model, pictures) -> None:
    taken = []

    def entries():
        for picture in pictures:
            taken.append(picture)
            yield (picture,)

    finds = find_objects(model, entries(), search(batch_size=2))
    assert taken == []
    next(finds)
    assert taken == [pictures[0]]


def test_a_prompt_near_the_end_of_the_context_leaves_what_room_there_is(model, array) -> None:
    long = "x" * (model.config.text.max_positions - 40)
    asked = Recorder(model)
    list(find_objects(asked, [(array,)], search(groups=((long,), ("cat",)), max_new_tokens=256)))
    room = model.config.text.max_positions - len(model.processor.prompt_ids(f"detect {long}"))
    assert {limit for _, _, limit, _ in asked.asked} == {room}
    assert 0 < room < 40


def test_an_answer_that_was_cut_is_logged(model, array, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="paligemma2"):
        list(find_objects(model, [(array,)], search()))
    answers = [model.generate(array, f"detect {' ; '.join(group)}", 24)[0] for group in GROUPS]
    cut = sum(answer.finish_reason == "length" for answer in answers)
    assert cut
    assert caplog.messages == [f"{cut} of 3 answers did not end within 24 tokens"]


def test_what_cannot_be_asked_is_refused(model, array) -> None:
    with pytest.raises(InputError, match="batch_size is 0"):
        search(batch_size=0)
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        search(max_new_tokens=0)
    with pytest.raises(InputError, match="is not a label"):
        list(find_objects(model, [(array,)], search(groups=(("a;b",),))))
    with pytest.raises(InputError, match="the model's context is 512"):
        list(find_objects(model, [(array,)], search(groups=(("x" * 600,),))))
