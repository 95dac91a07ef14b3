from pathlib import Path

import pytest
import torch

from paligemma2.errors import WorkError
from paligemma2.training.best_weights import keep_best, remove_best, restore_best
from tests.training.toy_run import Toy, assert_equal_weights


def changed() -> Toy:
    toy = Toy()
    with torch.no_grad():
        for parameter in toy.parameters():
            parameter.add_(1.0)
    return toy


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    toy = changed()
    keep_best(tmp_path / "run", Toy(), step=10)
    assert restore_best(tmp_path / "run", toy, step=10)
    assert_equal_weights(toy, Toy())


def test_only_trainable_weights_are_kept(tmp_path: Path) -> None:
    toy, frozen = changed(), Toy()
    frozen.head.requires_grad_(False)
    keep_best(tmp_path, frozen, step=1)
    assert restore_best(tmp_path, toy, step=1)
    assert torch.equal(toy.head.weight, changed().head.weight)
    assert torch.equal(toy.norm.weight, Toy().norm.weight)


def test_weights_of_another_step_are_not_taken(tmp_path: Path) -> None:
    """As after a crash between an evaluation and the next state, when the log was wound back."""
    toy = changed()
    assert not restore_best(tmp_path, toy, step=5)
    keep_best(tmp_path, Toy(), step=10)
    assert not restore_best(tmp_path, toy, step=5)
    assert_equal_weights(toy, changed())


def test_better_weights_take_the_place_of_those_before(tmp_path: Path) -> None:
    keep_best(tmp_path, Toy(), step=1)
    keep_best(tmp_path, changed(), step=2)
    toy = Toy()
    assert restore_best(tmp_path, toy, step=2)
    assert_equal_weights(toy, changed())
    remove_best(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_an_error_of_ours(tmp_path: Path) -> None:
    keep_best(tmp_path, Toy(), step=1)
    (path,) = tmp_path.glob("best/step-*/state.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(WorkError, match="is damaged"):
        restore_best(tmp_path, Toy(), step=1)
