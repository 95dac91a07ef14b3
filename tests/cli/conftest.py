from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from paligemma2.cli.main import main
from tests.small_model import save_picture, save_small_model


@dataclass(frozen=True)
class Ended:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str

    def has_failed_with(self, message: str, code: int = 2) -> bool:
        """Whether stderr has one line of error with this message, one with a hint, and nothing else."""
        lines = self.err.splitlines()
        kinds = [line.split(":")[0] for line in lines]
        return self.code == code and message in lines[0] and kinds in (["error", "hint"], ["error"])


Run = Callable[..., Ended]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def call(*words: object) -> Ended:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        captured = capfd.readouterr()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    made = tmp_path_factory.mktemp("pictures")
    return [save_picture(made / f"{seed}.png", seed) for seed in range(3)]
