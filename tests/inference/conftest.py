from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from tests.small_model import save_picture, save_small_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def model(folder: Path) -> PaliGemma2:
    """A model of its own for each test, which may spoil it."""
    return load(folder, device="cpu")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    made = tmp_path_factory.mktemp("pictures")
    return [save_picture(made / f"{seed}.png", seed) for seed in range(4)]


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (28, 28, 3), dtype=np.uint8)
