"""Experiment tracking: the numbers of a run, sent to one of three tools as they come.

The logs of the run folder are written in any case; a tracker is a copy that may fail.
"""

import contextlib
import json
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

from paligemma2.checkpoint.atomic import write_json
from paligemma2.errors import ConfigError
from paligemma2.optional import require

TrackerName: TypeAlias = Literal["trackio", "wandb", "tensorboard"]
_RUN = "tracking.json"


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """Where the numbers of a run go.

    Attributes:
        tool: "trackio" (files on this machine), "wandb" (Weights & Biases), or "tensorboard" (files in the
            run folder).
        project: under which the first two show the run.

    Raises:
        ConfigError: there is no such tool.
    """

    tool: TrackerName = "trackio"
    project: str = "paligemma2"

    def __post_init__(self) -> None:
        if self.tool not in get_args(TrackerName):
            raise ConfigError(
                f"tracking.tool is {self.tool!r}", hint=f"use one of {', '.join(get_args(TrackerName))}"
            )


class Tracker(Protocol):
    """Takes the numbers of one run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers by name; `step` is how many updates are done."""

    def finish(self) -> None:
        """No more will come."""


def require_tracker(tool: TrackerName) -> None:
    """Refuse a tool that is not installed.

    Raises:
        MissingExtra: it is not.
    """
    require(tool, extra="track" if tool == "trackio" else None)


def open_tracker(
    settings: TrackingSettings, *, name: str, folder: Path, record: Mapping[str, Any]
) -> Tracker:
    """A tracker of the run in a folder; a run that goes on is the same run for the tool, too.

    It may raise whatever the tool raises; see `tracked`.

    Args:
        settings: tool and project.
        name: how the run is called; a few random digits are added where the tool needs a unique name.
        folder: of the run.
        record: what the run is, as JSON can hold it.

    Raises:
        MissingExtra: the tool is not installed.
    """
    require_tracker(settings.tool)
    if settings.tool == "tensorboard":
        return _TensorBoard(folder / "tensorboard", record)
    return _Wandb(settings, _unique_name(folder, name), folder, record)


@contextlib.contextmanager
def tracked(open_it: Callable[[], Tracker] | None, warn: Callable[[str], None]) -> Iterator[Tracker]:
    """A tracker that never raises: after its first failure there is one warning, and nothing more.

    Args:
        open_it: gives the real tracker; None for no tracking.
        warn: takes the warning.
    """
    tracker = _Careful(open_it, warn)
    try:
        yield tracker
    finally:
        tracker.finish()


class _Careful:
    def __init__(self, open_it: Callable[[], Tracker] | None, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._tracker: Tracker | None = None
        if open_it is not None:
            self._try(lambda: self._keep(open_it()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: tracker.log(step, values))

    def finish(self) -> None:
        if (tracker := self._tracker) is not None:
            self._try(tracker.finish)

    def _keep(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def _try(self, action: Callable[[], None]) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # the tools greet, and stdout is for results
                action()
        except Exception as error:  # whatever a foreign library, its server or its files come up with
            self._tracker = None
            self._warn(f"tracking failed, and is off from here on: {type(error).__name__}: {error}")


class _Wandb:
    """Weights & Biases, and trackio, which has the same calls."""

    def __init__(
        self, settings: TrackingSettings, name: str, folder: Path, record: Mapping[str, Any]
    ) -> None:
        tool = require(settings.tool, extra=None)
        own = {"id": name, "dir": str(folder)} if settings.tool == "wandb" else {"embed": False}
        self._run = tool.init(project=settings.project, name=name, config=dict(record), resume="allow", **own)
        self._finish = tool.finish  # that of the run alone would let trackio finish it again at exit

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._finish()


class _TensorBoard:
    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self._writer = require("torch.utils.tensorboard", extra=None).SummaryWriter(str(folder))
        self._writer.add_text("run", f"```\n{json.dumps(record, indent=1)}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


def _unique_name(folder: Path, name: str) -> str:
    """The name with digits that no other run has; the same again for the same folder."""
    path = folder / _RUN
    if not path.exists():
        write_json(path, {"run": f"{name}-{secrets.token_hex(4)}"})
    return str(json.loads(path.read_text(encoding="utf-8"))["run"])
