from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.save import save_model
from tests.checkpoint.small_checkpoints import random_model, small_config


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder of ours, float32, one file."""
    config = small_config()
    save_model(tmp_path / "small", random_model(config), config)
    return tmp_path / "small"


@pytest.fixture
def golden(tmp_path: Path, golden_model: Path) -> Callable[[str], Path]:
    """The golden model of one variant as a folder that can be loaded."""

    def make(variant: str) -> Path:
        made = tmp_path / f"golden-{variant}"
        made.mkdir()
        (made / "model.safetensors").symlink_to((golden_model / "model.safetensors").resolve())
        (made / "config.json").write_text((golden_model / variant / "config.json").read_text())
        return made

    return make
