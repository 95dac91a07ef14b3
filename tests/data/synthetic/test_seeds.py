import pytest

from paligemma2.data.synthetic.seeds import SPLITS, random_for
from paligemma2.errors import InputError


def test_the_same_arguments_give_the_same_numbers():
    assert random_for("scene", "train", 7).random() == random_for("scene", "train", 7).random()


def test_the_numbers_do_not_change_between_processes_or_versions():
    # A stored value: a change here silently moves every sample of every split.
    assert random_for("scene", "train", 0).getrandbits(32) == 3695322895


def test_purpose_split_and_index_each_change_the_numbers():
    keys = [
        (purpose, split, index) for purpose in ("scene", "word") for split in SPLITS for index in range(50)
    ]
    assert len({random_for(*key).random() for key in keys}) == len(keys)


@pytest.mark.parametrize(("split", "index"), [("training", 0), ("train", -1)])
def test_an_unknown_split_or_a_negative_index_is_refused(split, index):
    with pytest.raises(InputError):
        random_for("scene", split, index)
