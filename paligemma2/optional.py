"""Optional libraries, imported where they are needed."""

import importlib
from types import ModuleType

from paligemma2.errors import MissingExtra


def require(module: str, *, extra: str | None) -> ModuleType:
    """The imported `module`, or an error that names the extra to install, or the library where there is none.

    Raises:
        MissingExtra: the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"this needs the library {module!r}, which is not installed",
            hint=f"pip install {module}" if extra is None else f"pip install 'paligemma2[{extra}]'",
        ) from error
