"""The benchmarks, one literal per file: `names()` lists the files, `load(name)` imports one."""

import difflib
import importlib
import importlib.util
import pkgutil
from pathlib import Path

from paligemma2.errors import InputError
from paligemma2.evaluation.task import Task

_MODULE = "paligemma2.tasks"


def names() -> tuple[str, ...]:
    """Of all tasks, in the order of the alphabet."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Task:
    """The task with a name, or of a Python file that holds a `TASK` (`path/to/mine.py`).

    Raises:
        InputError: there is none.
        MissingExtra: it needs a library that is not installed.
    """
    if name.endswith(".py"):
        return _load_file(Path(name))
    if name not in names():
        near = difflib.get_close_matches(name.lower(), names(), n=1)
        hint = f"did you mean {near[0]!r}? `paligemma2 tasks` lists all" if near else "see `paligemma2 tasks`"
        raise InputError(f"there is no task {name!r}", hint=hint)
    task = importlib.import_module(f"{_MODULE}.{name}").TASK
    assert isinstance(task, Task)
    return task


def _load_file(path: Path) -> Task:
    spec = importlib.util.spec_from_file_location(f"_task_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"{path} does not exist", hint="give the Python file of a task")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        task = module.TASK
    except Exception as error:  # whatever a file of the user does
        raise InputError(
            f"{path} holds no TASK that can be used: {error}", hint="see docs/add-a-benchmark.md"
        ) from error
    if not isinstance(task, Task):
        raise InputError(f"TASK in {path} is a {type(task).__name__}", hint="make it an evaluation.task.Task")
    return task
