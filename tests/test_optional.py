import math

import pytest

from paligemma2.errors import MissingExtra
from paligemma2.optional import require


def test_an_installed_library_is_imported() -> None:
    assert require("math", extra="none") is math


def test_a_missing_library_names_the_extra_to_install() -> None:
    with pytest.raises(MissingExtra, match=r"no_such_library.*pip install 'paligemma2\[pretrain\]'"):
        require("no_such_library", extra="pretrain")


def test_a_missing_library_without_an_extra_is_named_itself() -> None:
    with pytest.raises(MissingExtra, match=r"pip install no_such_library\)"):
        require("no_such_library", extra=None)
