"""Modules import only from the layers below them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
TORCHLESS = ("drawing", "metrics")


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that a test may spoil."""
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    only_code = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.png")
    shutil.copytree(PROJECT / "paligemma2", tmp_path / "paligemma2", ignore=only_code)
    return tmp_path


def test_imports_point_one_way() -> None:
    result = lint_imports(PROJECT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Imports point one way KEPT" in result.stdout


def test_an_upward_import_is_caught(copy: Path) -> None:
    (copy / "paligemma2" / "metrics" / "upward.py").write_text("import paligemma2.jobs\n")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "paligemma2.metrics.upward -> paligemma2.jobs" in result.stdout


def test_a_sideways_import_is_caught(copy: Path) -> None:
    (copy / "paligemma2" / "metrics" / "sideways.py").write_text("import paligemma2.drawing\n")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "paligemma2.metrics.sideways -> paligemma2.drawing" in result.stdout


def test_a_package_without_a_layer_is_caught(copy: Path) -> None:
    (copy / "paligemma2" / "helpers.py").write_text("")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "helpers" in result.stdout + result.stderr


@pytest.mark.parametrize("package", TORCHLESS)
def test_drawing_and_metrics_never_import_torch(package: str) -> None:
    folder = PROJECT / "paligemma2" / package
    names = [f"paligemma2.{package}.{path.stem}" for path in folder.glob("[!_]*.py")]
    program = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=False).returncode == 0
