from dataclasses import dataclass

import pytest

from paligemma2.data.miniatures.write import WRITERS, write_miniature
from paligemma2.errors import ConfigError


@dataclass(frozen=True)
class Unheard:
    """A reader without a writer."""


def test_a_reader_without_a_writer_is_named(tmp_path):
    with pytest.raises(ConfigError, match="Unheard"):
        write_miniature(tmp_path, [(Unheard(), ())])


def test_each_writer_belongs_to_one_reader():
    assert all(hasattr(reader, "read") for reader in WRITERS)
