"""The rules of `conftest.py`, each seen in a small project of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NEEDS_SHARED = "def test_reads(shared): assert (shared / 'file').read_text() == 'x'\n"
SKIPS_ITSELF = "import pytest\n@pytest.mark.golden\ndef test_one(): pytest.skip('no library')\n"
SKIPS_THE_FILE = "import pytest\npytest.skip('no library', allow_module_level=True)\n# golden\n"
HAS_NO_CASES = (
    "import pytest\n@pytest.mark.golden\n@pytest.mark.parametrize('case', [])\ndef test_one(case): pass\n"
)
SKIPS_A_PLAIN_TEST = "import pytest\ndef test_one(): pytest.skip('not here')\n"


def run_pytest(
    folder: Path, source: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `source` as the only test of a project in `folder`, under our conftest and settings."""
    (folder / "project" / "tests").mkdir(parents=True)
    shutil.copy(TESTS / "conftest.py", folder / "project" / "tests")
    shutil.copy(TESTS.parent / "pyproject.toml", folder / "project")
    (folder / "project" / "tests" / "test_it.py").write_text(source)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PALIGEMMA2_", "PYTEST_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments],
        cwd=folder / "project",
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def add_shared(folder: Path) -> Path:
    (folder / "shared").mkdir()
    (folder / "shared" / "file").write_text("x")
    return folder / "shared"


def test_shared_material_is_found_beside_the_project(tmp_path: Path) -> None:
    add_shared(tmp_path)
    run = run_pytest(tmp_path, NEEDS_SHARED)
    assert run.returncode == 0, run.stdout
    assert "golden cases run: 1" in run.stdout


def test_absent_shared_material_skips_with_the_reason(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, NEEDS_SHARED)
    assert run.returncode == 0, run.stdout
    assert f"{tmp_path / 'shared'} does not exist" in run.stdout
    assert "golden cases run: 0" in run.stdout


@pytest.mark.parametrize("variable", ["PALIGEMMA2_SHARED", "PALIGEMMA2_GOLDEN_MODEL"])
@pytest.mark.parametrize("source", [SKIPS_ITSELF, SKIPS_THE_FILE, HAS_NO_CASES])
def test_a_skipped_golden_test_fails_where_the_material_is_named(
    tmp_path: Path, source: str, variable: str
) -> None:
    run = run_pytest(tmp_path, source, **{variable: str(add_shared(tmp_path))})
    assert run.returncode != 0, run.stdout
    assert "A golden test was skipped where it must run" in run.stdout


def test_naming_absent_material_fails(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, NEEDS_SHARED, PALIGEMMA2_SHARED=str(tmp_path / "nowhere"))
    assert run.returncode == 1, run.stdout
    assert "nowhere does not exist" in run.stdout


@pytest.mark.parametrize("source", [SKIPS_ITSELF, HAS_NO_CASES])
def test_a_golden_test_may_skip_where_no_material_is_named(tmp_path: Path, source: str) -> None:
    run = run_pytest(tmp_path, source)
    assert run.returncode == 0, run.stdout
    assert "1 skipped" in run.stdout


def test_a_plain_test_may_always_skip(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, SKIPS_A_PLAIN_TEST, PALIGEMMA2_SHARED=str(add_shared(tmp_path)))
    assert run.returncode == 0, run.stdout


def test_the_count_and_the_rule_survive_xdist(tmp_path: Path) -> None:
    source = NEEDS_SHARED + SKIPS_ITSELF + "@pytest.mark.golden\n@pytest.mark.parametrize('n', range(3))\n"
    source += "def test_many(n): pass\ndef test_plain(): pass\n"
    run = run_pytest(tmp_path, source, "-n", "2", PALIGEMMA2_SHARED=str(add_shared(tmp_path)))
    assert run.returncode == 1, run.stdout
    assert "5 passed, 1 failed" in run.stdout or "1 failed, 5 passed" in run.stdout, run.stdout
    assert "golden cases run: 5" in run.stdout


def test_the_golden_model_has_its_own_variable(tmp_path: Path) -> None:
    model = add_shared(tmp_path).rename(tmp_path / "another")
    source = "def test_it(golden_model): assert golden_model.name == 'another'\n"
    run = run_pytest(tmp_path, source, PALIGEMMA2_GOLDEN_MODEL=str(model))
    assert run.returncode == 0, run.stdout


def test_torch_has_one_thread_per_worker() -> None:
    import torch

    assert torch.get_num_threads() == 1
