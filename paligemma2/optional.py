"""Optional libraries, imported where they are needed."""

import importlib
from types import ModuleType

from paligemma2.errors import MissingExtra


def require(module: str, *, extra: str) -> ModuleType:
    """The imported `module`, or an error that names the extra to install.

    Raises:
        MissingExtra: the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"this needs the library {module!r}, which is not installed",
            hint=f"pip install 'paligemma2[{extra}]'",
        ) from error
