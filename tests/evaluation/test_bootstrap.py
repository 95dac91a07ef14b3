import time

import numpy as np
import pytest

from paligemma2.errors import InputError
from paligemma2.evaluation.bootstrap import bootstrap_interval
from paligemma2.metrics.scores import Scores


def scores(values, groups=(), value=None):
    values = tuple(float(each) for each in values)
    return Scores(
        value=float(np.mean(values)) if value is None else value, values=values, groups=tuple(groups)
    )


def alone(count):
    return [""] * count


def test_it_agrees_with_the_normal_interval_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.random(4000) < 0.3
    low, high = bootstrap_interval([scores(values)], [alone(4000)], samples=2000)
    mean, error = values.mean(), values.std() / 4000**0.5
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_questions_about_one_picture_are_drawn_together():
    """With equal values within each picture the interval is that of the pictures alone, twice as wide."""
    rng = np.random.default_rng(1)
    pictures = rng.random(1000)
    values, units = np.repeat(pictures, 4), np.repeat([f"{i}.png" for i in range(1000)], 4)
    low, high = bootstrap_interval([scores(values)], [list(units)], samples=2000)
    width = 2 * 1.96 * pictures.std() / 1000**0.5
    assert high - low == pytest.approx(width, rel=0.1)
    low, high = bootstrap_interval([scores(values)], [alone(4000)], samples=2000)
    assert high - low == pytest.approx(width / 2, rel=0.1)


def test_a_mean_over_groups_draws_inside_of_each():
    """A rare group counts as much as a common one, so its few examples decide the width."""
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.random(5000), rng.random(200)])
    groups = ["common"] * 5000 + ["rare"] * 200
    value = (values[:5000].mean() + values[5000:].mean()) / 2
    low, high = bootstrap_interval([scores(values, groups, value)], [alone(5200)], samples=2000)
    error = 0.5 * (values[:5000].var() / 5000 + values[5000:].var() / 200) ** 0.5
    assert (low + high) / 2 == pytest.approx(value, abs=0.2 * error)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    # Constant groups of other means have no spread, which drawing over all would give them.
    steady = scores([0.0] * 10 + [1.0] * 30, ["a"] * 10 + ["b"] * 30, 0.5)
    assert bootstrap_interval([steady], [alone(40)]) == (0.5, 0.5)


def test_a_mean_over_splits_draws_inside_of_each():
    rng = np.random.default_rng(3)
    splits = [rng.random(count) for count in (400, 900)]
    low, high = bootstrap_interval([scores(each) for each in splits], [alone(400), alone(900)], samples=2000)
    error = 0.5 * sum(each.var() / len(each) for each in splits) ** 0.5
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_number_that_is_no_mean_moves_its_interval():
    one, other = scores([0.0, 1.0] * 50), scores([0.0, 1.0] * 50, value=0.7)
    low, high = bootstrap_interval([one], [alone(100)])
    assert bootstrap_interval([other], [alone(100)]) == pytest.approx((low + 0.2, high + 0.2))


def test_units_of_different_sizes_are_weighed_by_their_questions():
    values, units = [1.0] * 9 + [0.0], ["a"] * 9 + ["b"]
    assert bootstrap_interval([scores(values)], [units], samples=400) == (0.0, 1.0)


def test_the_truth_is_inside_as_often_as_promised():
    rng, inside, trials = np.random.default_rng(4), 0, 300
    for _ in range(trials):
        rates = rng.beta(2, 2, 120)  # of pictures with three questions each; the mean of the beta is 0.5
        values = (rng.random((120, 3)) < rates[:, None]).ravel()
        units = np.repeat([str(i) for i in range(120)], 3)
        low, high = bootstrap_interval([scores(values)], [list(units)], samples=300)
        inside += low <= 0.5 <= high
    assert 0.91 <= inside / trials <= 0.98


def test_the_same_seed_gives_the_same_and_another_another():
    values = scores(np.random.default_rng(5).random(50))
    assert bootstrap_interval([values], [alone(50)]) == bootstrap_interval([values], [alone(50)])
    assert bootstrap_interval([values], [alone(50)]) != bootstrap_interval([values], [alone(50)], seed=1)


def test_two_hundred_thousand_questions_take_seconds():
    values = scores(np.random.default_rng(6).random(200_000))
    units = [str(i // 5) for i in range(200_000)]
    begin = time.monotonic()
    bootstrap_interval([values], [units])
    bootstrap_interval([values], [alone(200_000)])
    assert time.monotonic() - begin < 60  # about 5 on a free core; a loop over questions takes minutes


def test_one_example_has_no_spread_and_nothing_is_refused():
    assert bootstrap_interval([scores([0.5])], [["a"]]) == (0.5, 0.5)
    for wrong in (([], []), ([scores([1.0])], [[]]), ([Scores(value=0.0, values=())], [[]])):
        with pytest.raises(InputError):
            bootstrap_interval(*wrong)
    with pytest.raises(InputError, match="0 samples"):
        bootstrap_interval([scores([1.0])], [["a"]], samples=0)


def test_what_the_rule_leaves_out_is_not_drawn():
    rng = np.random.default_rng(4)
    values = rng.random(300).round()
    alike = bootstrap_interval([scores(values)], [alone(300)])
    with_more = scores([*values, *[0] * 200], ["all"] * 300 + [""] * 200, float(values.mean()))
    assert bootstrap_interval([with_more], [alone(500)]) == alike
