import inspect
import pickle

import pytest

from paligemma2 import errors
from paligemma2.errors import Interrupted, PaliGemmaError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, PaliGemmaError)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_drawn_in_the_tree(error: type[PaliGemmaError]) -> None:
    assert error.__name__ in str(errors.__doc__)


def test_an_error_says_what_was_wrong_and_what_to_do() -> None:
    error = errors.InputError("the box is empty", hint="fill it")
    assert str(error) == "the box is empty (fill it)"
    assert str(errors.InputError("the box is empty")) == "the box is empty"


@pytest.mark.parametrize(("signal_number", "code"), [(2, 130), (15, 143)])
def test_a_stop_exits_as_the_shell_expects(signal_number: int, code: int) -> None:
    assert Interrupted("stopped", signal_number=signal_number).exit_code == code


def test_an_error_travels_between_processes() -> None:
    for error in (
        Interrupted("stopped", signal_number=15, hint="go on"),
        errors.InputError("no", hint="yes"),
    ):
        arrived = pickle.loads(pickle.dumps(error))
        assert (type(arrived), str(arrived), arrived.exit_code) == (type(error), str(error), error.exit_code)


def test_bad_input_exits_with_2_and_failed_work_with_1() -> None:
    assert errors.WorkError.exit_code == 1
    inputs = (errors.InputError, errors.ImageError, errors.ConfigError, errors.CheckpointError)
    others = (errors.HubError, errors.DataError, errors.MissingExtra)
    assert {error.exit_code for error in (*inputs, *others)} == {2}
