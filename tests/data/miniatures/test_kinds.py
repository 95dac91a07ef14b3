import numpy as np
import pytest

from paligemma2.data.miniatures.kinds import KINDS, draw_contents
from paligemma2.errors import ConfigError


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_number_and_seed_give_the_same_content(kind):
    first = list(draw_contents(kind, seed=3, first=1, count=2))
    (second,) = draw_contents(kind, seed=3, first=2, count=1)
    assert [content.number for content in first] == [1, 2]
    assert np.array_equal(first[1].pictures, second.pictures)
    assert (first[1].asked, first[1].captions) == (second.asked, second.captions)


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_or_seed_gives_another_picture(kind):
    one, two = draw_contents(kind, seed=3, first=1, count=2)
    (other,) = draw_contents(kind, seed=4, first=1, count=1)
    assert not np.array_equal(one.pictures[0], two.pictures[0])
    assert not np.array_equal(one.pictures[0], other.pictures[0])


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ConfigError, match="no kind of miniature 'questoin'") as caught:
        list(draw_contents("questoin", seed=0, first=1, count=1))
    assert "question" in caught.value.hint
