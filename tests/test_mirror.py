"""`paligemma2/<folder>/<name>.py` is tested by `tests/<folder>/test_<name>.py`, and by nothing else.

Tests of the whole project lie directly in `tests/`, comparisons with a reference in `tests/golden/`. One test
walks the tasks, `tests/test_tasks.py`.
"""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "paligemma2"


def wanted() -> set[str]:
    sources = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__"))
    return {
        source.with_name(f"test_{source.name}").as_posix() for source in sources if source.parts[0] != "tasks"
    }


def present() -> set[str]:
    return {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}


def test_every_module_has_its_test() -> None:
    assert sorted(wanted() - present()) == []


def test_every_test_has_its_module() -> None:
    extra = present() - wanted()
    assert sorted(name for name in extra if "/" in name and not name.startswith("golden/")) == []
