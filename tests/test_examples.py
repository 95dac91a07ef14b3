"""Every script in `examples/` runs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paligemma2.assets import PICTURES_FOLDER, TINY_FOLDER

PROJECT = Path(__file__).resolve().parents[1]
ARGUMENTS = {
    "predict.py": [],
    "detect.py": ["drawn.png"],
    "transfer.py": ["folder", "2"],
    "draw_pictures.py": ["pictures"],
}
needs_tiny = pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet")


def run(name: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, PROJECT / "examples" / name, *ARGUMENTS[name]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_script_is_tested() -> None:
    assert {path.name for path in (PROJECT / "examples").glob("*.py")} == set(ARGUMENTS)


@needs_tiny
def test_predict_prints_three_answers(tmp_path: Path) -> None:
    assert len(run("predict.py", tmp_path).splitlines()) == 3


@needs_tiny
def test_detect_draws_what_it_finds(tmp_path: Path) -> None:
    assert "circle: left" in run("detect.py", tmp_path)
    with Image.open(tmp_path / "drawn.png") as image:
        assert image.size == (336, 336)


@pytest.mark.slow
@needs_tiny
def test_transfer_ends_with_both_scores(tmp_path: Path) -> None:
    assert run("transfer.py", tmp_path).splitlines()[-1].startswith("exact match: 0.")
    assert (tmp_path / "folder" / "model" / "transfer.json").is_file()


def test_the_bundled_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    run("draw_pictures.py", tmp_path)
    drawn = sorted((tmp_path / "pictures").glob("*.png"))
    assert [path.name for path in drawn] == sorted(path.name for path in PICTURES_FOLDER.glob("*.png"))
    for path in drawn:
        with Image.open(path) as ours, Image.open(PICTURES_FOLDER / path.name) as theirs:
            # Versions of Pillow and its typeface may differ in the smoothing of edges.
            assert np.abs(np.int16(ours) - np.int16(theirs)).mean() < 3, path.name
