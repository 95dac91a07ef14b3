"""Every error that this package raises on purpose.

    PaliGemmaError               anything below; `exit_code` is what the command line returns
    ├── InputError               a bad argument, prompt or image                     exit 2
    │   └── ImageError           an image that cannot be read or is out of limits     exit 2
    ├── ConfigError              a setting or a `config.json` that makes no sense     exit 2
    ├── CheckpointError          weight files that are missing, damaged or foreign    exit 2
    │   └── HubError             the hub cannot or will not give the files            exit 2
    ├── DataError                a data set that cannot be used                       exit 2
    ├── MissingExtra             an optional library is not installed                 exit 2
    ├── WorkError                the work itself failed: disk full, NaN loss          exit 1
    └── Interrupted              Ctrl-C (130) or SIGTERM (143), after saving

A message says what was wrong and with which value; the hint says what to do.
"""

from functools import partial


class PaliGemmaError(Exception):
    """Base of all errors of this package.

    Args:
        message: one line: what was wrong, with which value.
        hint: one line: what to do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(PaliGemmaError):
    """A bad argument, prompt or image."""

    exit_code = 2


class ImageError(InputError):
    """An image that cannot be read or is out of limits."""


class ConfigError(PaliGemmaError):
    """A setting or a `config.json` that makes no sense."""

    exit_code = 2


class CheckpointError(PaliGemmaError):
    """Weight files that are missing, damaged or of another model."""

    exit_code = 2


class HubError(CheckpointError):
    """The hub cannot or will not give the files."""


class DataError(PaliGemmaError):
    """A data set that cannot be used."""

    exit_code = 2


class MissingExtra(PaliGemmaError):
    """An optional library is not installed."""

    exit_code = 2


class WorkError(PaliGemmaError):
    """The work itself failed: disk full, loss not a number."""


class Interrupted(PaliGemmaError):
    """The user or the system asked to stop; what was done is saved.

    Args:
        message: what was saved, and where.
        signal_number: 2 (Ctrl-C) or 15 (SIGTERM).
        hint: how to go on.
    """

    def __init__(self, message: str, *, signal_number: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[partial["Interrupted"], tuple[()]]:
        """For the way from one process to another, on which Python would leave the number out."""
        number = self.exit_code - 128
        return partial(Interrupted, self.message, signal_number=number, hint=self.hint), ()
