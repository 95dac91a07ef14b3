from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.data.order import EpochOrder, Mixture, choose_answer, choose_question, shuffled
from paligemma2.errors import ConfigError
from paligemma2.types import Example, Variant


def test_an_order_is_drawn_by_its_key_alone() -> None:
    assert shuffled(8, 0, "a").tolist() == shuffled(8, 0, "a").tolist()
    assert shuffled(50, 0, "a").tolist() != shuffled(50, 1, "a").tolist()
    assert sorted(shuffled(50, 0).tolist()) == list(range(50))


def test_orders_stay_the_same_from_version_to_version() -> None:
    """A run that began with an older version of this package must go on in the same order."""
    assert shuffled(8, 3, 0, 1).tolist() == [5, 4, 1, 2, 7, 3, 0, 6]


@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 4))
def test_every_example_comes_once_per_epoch(count: int, seed: int, epochs: int) -> None:
    order = EpochOrder(count, seed)
    numbers = [order(place) for place in range(count * epochs)]
    for epoch in range(epochs):
        assert sorted(numbers[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30))
def test_an_order_does_not_depend_on_what_was_asked_before(places: list[int]) -> None:
    order = EpochOrder(7, 1)
    assert [order(place) for place in places] == [EpochOrder(7, 1)(place) for place in places]


def test_another_seed_and_another_epoch_have_another_order() -> None:
    first, second = EpochOrder(50, 0), EpochOrder(50, 1)
    assert [first(i) for i in range(50)] != [second(i) for i in range(50)]
    assert [first(i) for i in range(50)] != [first(50 + i) for i in range(50)]


def answers(count: int, rule: str, visits: range, example: str = "a", seed: int = 0) -> list[str]:
    texts = [str(number) for number in range(count)]
    return [choose_answer(texts, rule, seed=seed, example=example, visit=visit) for visit in visits]  # type: ignore[arg-type]


@given(st.integers(1, 10), st.integers(0, 3), st.text(max_size=4))
def test_all_answers_come_once_before_one_comes_again(count: int, cycle: int, example: str) -> None:
    visits = range(cycle * count, (cycle + 1) * count)
    assert sorted(answers(count, "choice_no_replacement", visits, example)) == sorted(map(str, range(count)))


def test_each_cycle_each_example_and_each_seed_has_another_order_of_answers() -> None:
    first = answers(10, "choice_no_replacement", range(10))
    assert first == answers(10, "choice_no_replacement", range(10))
    assert first != answers(10, "choice_no_replacement", range(10, 20))
    assert first != answers(10, "choice_no_replacement", range(10), example="b")
    assert first != answers(10, "choice_no_replacement", range(10), seed=1)


def test_plain_choice_draws_anew_each_time() -> None:
    drawn = answers(5, "choice", range(5000))
    assert drawn == answers(5, "choice", range(5000))
    assert all(900 < count < 1100 for count in Counter(drawn).values())
    assert any(len(set(drawn[at : at + 5])) < 5 for at in range(0, 50, 5))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3, 1), (0.5, 0.3, 0.2), (7398, 20901), (1, 1, 1)])
def test_sources_have_their_shares(weights: tuple[float, ...]) -> None:
    mixture = Mixture(weights, seed=0)
    counts = Counter(mixture(place)[0] for place in range(30_000))
    for source, weight in enumerate(weights):
        assert counts[source] / 30_000 == pytest.approx(weight / sum(weights), abs=1e-4)
    early = Counter(mixture(place)[0] for place in range(2000))
    for source, weight in enumerate(weights):
        assert early[source] / 2000 == pytest.approx(weight / sum(weights), abs=0.04)


def test_the_places_of_a_source_follow_each_other() -> None:
    mixture = Mixture((0.5, 0.3, 0.2), seed=4)
    places: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for place in range(25_000):
        source, at = mixture(place)
        places[source].append(at)
    for found in places.values():
        assert found == list(range(len(found)))


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=12))
def test_a_mixture_does_not_depend_on_what_was_asked_before(places: list[int]) -> None:
    mixture = Mixture((2, 1), seed=0)
    assert [mixture(place) for place in places] == [Mixture((2, 1), seed=0)(place) for place in places]


def test_another_seed_mixes_otherwise() -> None:
    one, other = Mixture((1, 1), 0), Mixture((1, 1), 1)
    assert [one(place) for place in range(99)] != [other(place) for place in range(99)]


def test_one_source_is_not_mixed() -> None:
    assert [Mixture((0.3,), 0)(place) for place in (0, 5, 10**9)] == [(0, 0), (0, 5), (0, 10**9)]


@pytest.mark.parametrize("weights", [(1, 0), (1, -1), (1, float("nan")), (1, float("inf"))])
def test_weights_must_be_positive_numbers(weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="the weights of the sources are"):
        Mixture(weights, 0)


def test_a_weight_too_small_to_come_is_refused() -> None:
    mixture = Mixture((1, 1e-4), 0)
    assert {mixture(place)[0] for place in range(10_000)} == {0, 1}
    with pytest.raises(ConfigError, match="a source of weight 1e-06 among 1 would hardly ever come"):
        Mixture((1, 1e-6), 0)


def test_orders_of_a_million_are_small() -> None:
    assert shuffled(1_000_000, 0).dtype == np.uint32


TWO = Example(
    images=("a.png",),
    variants=(
        Variant(prefixes=("the cat", "the grey one"), answers=("cat",)),
        Variant(prefixes=("the dog",), answers=("dog", "Hund")),
    ),
)


def questions(rule: str, count: int) -> list[Example]:
    return [choose_question(TWO, rule, seed=0, name="a", visit=visit) for visit in range(count)]  # type: ignore[arg-type]


def test_each_variant_comes_once_before_one_comes_again() -> None:
    asked = questions("choice_no_replacement", 8)
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        assert {first.prefix == "the dog", second.prefix == "the dog"} == {True, False}
    assert {each.prefix for each in asked} == {"the cat", "the grey one", "the dog"}
    assert all((each.prefix == "the dog") == (each.suffix != "cat") for each in asked)
    assert not any(each.variants for each in asked)


def test_the_answers_of_a_variant_take_turns() -> None:
    dogs = [each.suffix for each in questions("choice_no_replacement", 8) if each.prefix == "the dog"]
    assert {*dogs[:2]} == {*dogs[2:]} == {"dog", "Hund"}


def test_variants_are_drawn_anew_by_the_other_rule() -> None:
    asked = questions("choice", 40)
    assert {each.suffix for each in asked} == {"cat", "dog", "Hund"}
    assert any(a.prefix == b.prefix == "the dog" for a, b in zip(asked[::2], asked[1::2], strict=True))


def test_an_example_of_one_answer_stays_as_it_is() -> None:
    only = Example(images=("a.png",), prefix="ask", suffix="one")
    assert choose_question(only, "choice", seed=0, name="a", visit=3) is only
