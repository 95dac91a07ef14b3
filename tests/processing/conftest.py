import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig, preset
from paligemma2.processing.tiny_tokenizer import build_tiny_tokenizer
from paligemma2.processing.tokenizer import Tokenizer

_WORDS = ("cat", "dog", "caption", "en", ";")


@pytest.fixture(scope="session")
def words() -> tuple[str, ...]:
    return _WORDS


@pytest.fixture(scope="session")
def tiny_json() -> str:
    return build_tiny_tokenizer(_WORDS)


@pytest.fixture(scope="session")
def config_for() -> Callable[[int], ModelConfig]:
    """The 3B configuration with `<image>` at another id."""
    return lambda image_id: dataclasses.replace(preset("paligemma2-3b-pt-224"), image_token_id=image_id)


@pytest.fixture(scope="session")
def tiny(tiny_json: str, tiny_config: ModelConfig) -> Tokenizer:
    return Tokenizer.from_json(tiny_json, tiny_config)


@pytest.fixture(scope="session")
def tiny_config(tiny_json: str) -> ModelConfig:
    """28 px, 4 tokens per image, a context of 64."""
    image_id = json.loads(tiny_json)["model"]["vocab"]["<image>"]
    return ModelConfig(
        vision=VisionConfig(image_size=28), text=TextConfig(max_positions=64), image_token_id=image_id
    )


@pytest.fixture(scope="session")
def gemma_folder(shared: Path) -> Path:
    return shared / "tokenizer"


@pytest.fixture(scope="session")
def gemma(gemma_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(gemma_folder, preset("paligemma2-3b-pt-224"))
