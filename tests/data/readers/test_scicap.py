import shutil
from pathlib import Path

import pytest

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.scicap import SciCapFigures
from paligemma2.errors import DataError
from tests.data.readers.small_rows import FIXTURES, fixture, read


def test_the_figures_of_a_list() -> None:
    first, second = read(SciCapFigures(split="test"), fixture("scicap"))
    assert (first.id, first.pictures) == ("1001.0003v1-Figure2-1", ("1001.0003v1-Figure2-1.png",))
    assert first.fields == {"caption": "accuracy over 10 epochs on the test set ."}
    assert second.fields == {"caption": "histogram of ages , 20 in each bin ."}


def test_a_figure_without_its_text_is_told(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "scicap", tmp_path / "scicap")
    text = tmp_path / "scicap/scicap_data/SciCap-Caption-All/test/1001.0003v1-Figure2-1.json"
    text.write_text("{}")
    with pytest.raises(DataError, match=r"Figure2-1\.json, .* no field '1-lowercase"):
        read(SciCapFigures(split="test"), DataFolder(tmp_path))
    text.unlink()
    with pytest.raises(DataError, match=r"Figure2-1\.json is not there"):
        read(SciCapFigures(split="test"), DataFolder(tmp_path))
