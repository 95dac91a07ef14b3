from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from paligemma2.checkpoint.adapter import read_adapter
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from tests.small_adapter import EVERYTHING, merged, save_random_adapter
from tests.small_model import save_picture, save_small_model, small_config


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def model(folder: Path) -> PaliGemma2:
    """A model of its own for each test, which may spoil it."""
    return load(folder, device="cpu")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two that change the decoder alone, and one that changes the image encoder too."""
    made, config = tmp_path_factory.mktemp("adapters"), small_config()
    return {
        "first": save_random_adapter(made / "first", config, seed=1),
        "second": save_random_adapter(made / "second", config, seed=2),
        "sees": save_random_adapter(made / "sees", config, EVERYTHING, seed=3),
    }


@pytest.fixture
def adapted(folder: Path, adapters: dict[str, Path]) -> PaliGemma2:
    """A model with all of the adapters."""
    return load(folder, device="cpu", adapter=adapters)


@pytest.fixture
def alone(folder: Path, adapters: dict[str, Path]) -> Callable[[str | None], PaliGemma2]:
    """Gives a model without adapters that has the weights of one in its own."""

    def make(name: str | None) -> PaliGemma2:
        model = load(folder, device="cpu", for_training=True)
        if name is not None:
            model.model = merged(model.model, read_adapter(adapters[name], model.config))
        return PaliGemma2(model.model, model.processor, folder)

    return make


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    made = tmp_path_factory.mktemp("pictures")
    return [save_picture(made / f"{seed}.png", seed) for seed in range(4)]


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (28, 28, 3), dtype=np.uint8)
