"""From what a user names to files on this machine; a hub id goes through `huggingface_hub` and its cache."""

import difflib
import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from paligemma2.errors import HubError, InputError
from paligemma2.model.config import PRESETS

_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILES = ("*.json", "*.safetensors", "tokenizer.model")
_OWNER = "google"
_RELEASED = tuple(name for name in PRESETS if name.startswith("paligemma2-"))  # not "tiny"


def resolve(source: str | Path) -> Path:
    """The folder or `.npz` file that `source` names; a hub id is downloaded unless the cache has it.

    Args:
        source: a folder, an `.npz` file, or a hub id `owner/name`, optionally `owner/name@revision`.

    Raises:
        InputError: neither a file here nor a hub id.
        HubError: the hub cannot or will not give the files.
    """
    path = Path(source).expanduser()
    if source == "":
        raise _unknown("")  # Path("") would be the current folder.
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix == ".npz":
            return path
        raise InputError(
            f"{path} is a file, but not a big_vision .npz",
            hint=f"give its folder: {path.parent}" if path.suffix == ".safetensors" else "give a folder",
        )
    match = _HUB_ID.fullmatch(str(source))
    # Path("./x/y") drops the dot, so only text can say that a folder on this machine was meant.
    if match is None or path.suffix == ".npz" or isinstance(source, Path):
        raise _unknown(str(source))
    return _download(match["id"], match["revision"])


def _unknown(source: str) -> InputError:
    name = source.strip("/").rsplit("/", 1)[-1]
    near = difflib.get_close_matches(name, _RELEASED, n=1)
    if name in _RELEASED:
        hint = f"for the released model use '{_OWNER}/{name}'"
    elif near:
        hint = f"did you mean '{_OWNER}/{near[0]}'?"
    else:
        hint = f"give a folder, an .npz file, or a hub id such as '{_OWNER}/{_RELEASED[0]}'"
    return InputError(f"no checkpoint at {source!r}", hint=hint)


def _download(hub_id: str, revision: str | None) -> Path:
    # huggingface_hub takes a third of a second to import; local folders do not need it.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(_FILES)))
    except Exception as error:
        # Its HTTP library, and so the classes of its errors, differ between versions of the hub's client.
        raise _explained(error, hub_id, revision) from error


def download_dataset(hub_id: str, patterns: Sequence[str]) -> Path:
    """The folder with the files of a data set of the hub, downloaded unless the cache has them.

    Args:
        hub_id: `owner/name`.
        patterns: only files that match one of these.

    Raises:
        HubError: the hub cannot or will not give the files, or has none of them.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(hub_id, repo_type="dataset", allow_patterns=list(patterns)))
    except Exception as error:
        raise _explained(error, hub_id, None, kind="data set") from error
    if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
        raise HubError(
            f"{hub_id} has no file {patterns[0]}",
            hint="its files may have moved; download the data set from its authors",
        )
    return folder


def is_hub_id(text: str) -> bool:
    """Whether a text may name something on the hub."""
    return _HUB_ID.fullmatch(text) is not None


def _explained(error: Exception, hub_id: str, revision: str | None, kind: str = "model") -> HubError:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{hub_id}" if kind == "model" else f"{constants.ENDPOINT}/datasets/{hub_id}"
    chain = list(_chain(error))
    statuses = {getattr(getattr(link, "response", None), "status_code", None) for link in chain}

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if any(isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT) for link in chain):
        return HubError(
            f"{hub_id}: the disk is full", hint=f"free some space in {constants.HF_HUB_CACHE}, or set HF_HOME"
        )
    if has(errors.GatedRepoError):
        return HubError(
            f"{hub_id} is gated: its licence must be accepted first",
            hint=f"accept it at {page}, then run `hf auth login` or set HF_TOKEN",
        )
    if has(errors.RevisionNotFoundError):
        return HubError(
            f"{hub_id} has no revision {revision!r}", hint=f"see {page}/tree/main for its branches"
        )
    if has(errors.OfflineModeIsEnabled):
        return HubError(
            f"{hub_id} is not in the cache, and HF_HUB_OFFLINE forbids to download it",
            hint="unset HF_HUB_OFFLINE, or give a folder on this machine",
        )
    if 403 in statuses:
        return HubError(
            f"{hub_id}: the hub refuses this token",
            hint=f"accept the licence at {page}, and give the token the right to read gated repositories",
        )
    if has(errors.RepositoryNotFoundError) or 401 in statuses:
        return _not_visible(hub_id, page, kind)
    return HubError(
        f"{hub_id}: the hub could not be reached: {_first_line(chain[-1])}",
        hint="check the network and try again, or give a folder on this machine",
    )


def _not_visible(hub_id: str, page: str, kind: str) -> HubError:
    # To a stranger the hub answers the same for what is absent and for what is private.
    near = _nearest(hub_id) if kind == "model" else ""
    return HubError(
        f"there is neither a folder {hub_id!r} here nor such a {kind} on the hub that you may see",
        hint=f"check the name{near}; if {page} exists, run `hf auth login` or set HF_TOKEN",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _nearest(hub_id: str) -> str:
    name = hub_id.rsplit("/", 1)[-1]
    near = difflib.get_close_matches(name, _RELEASED, n=1)
    return f" (nearest: '{_OWNER}/{near[0]}')" if near and f"{_OWNER}/{near[0]}" != hub_id else ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
