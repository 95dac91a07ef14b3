"""From what a user names to the data of a task: a folder on this machine, or a data set of the hub."""

from dataclasses import replace
from pathlib import Path

from paligemma2.checkpoint.hub import download_dataset, is_hub_id
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.errors import DataError
from paligemma2.evaluation.task import HubTable, Task, parse_splits


def open_data(task: Task, source: str | Path, splits: tuple[str, ...] = ()) -> tuple[Task, DataFolder]:
    """The task with readers for what is there, and the folder.

    A folder with the authors' own files is read as the task says; one with the parquet files of the hub, and
    an id of the hub, as `Task.hub` says.

    Args:
        task: the task.
        source: a folder, or `owner/name` on the hub.
        splits: what will be read, as "val[-10240:]" or "train + val"; of the hub nothing else is downloaded.
            () is all that it has.

    Raises:
        DataError: neither a folder nor an id; or the hub has the task not with this id or these splits.
        HubError: the hub cannot or will not give the files.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        folder = DataFolder(path)
        return (_of_hub(task, task.hub) if _is_from_hub(task, folder) else task), folder
    if isinstance(source, Path) or not is_hub_id(source):
        raise DataError(f"{source} is not a folder", hint="give the folder of the data set, or owner/name")
    hub = _checked(task, source, splits)
    wanted = {part.name for text in splits for part in parse_splits(text)} or set(hub.splits)
    patterns = [hub.splits[name].files for name in sorted(wanted)]
    return _of_hub(task, hub), DataFolder(download_dataset(hub.id, patterns))


def _checked(task: Task, source: str, splits: tuple[str, ...]) -> HubTable:
    if task.hub is None or task.hub.id.lower() != source.lower():
        known = f"use {task.hub.id}, or " if task.hub else ""
        raise DataError(
            f"{task.title} is not known as {source!r}, which is no folder here either",
            hint=f"{known}download the data set from its authors and give its folder",
        )
    for text in splits:
        for part in parse_splits(text):
            if part.name not in task.hub.splits:
                raise DataError(
                    f"{source} has no split {part.name!r} of {task.title}",
                    hint=f"it has {', '.join(task.hub.splits)}; download the others from the authors",
                )
    return task.hub


def _is_from_hub(task: Task, folder: DataFolder) -> bool:
    if task.hub is None:
        return False
    for reader in task.hub.splits.values():
        try:
            return bool(folder.files(reader.files))
        except DataError:
            continue
    return False


def _of_hub(task: Task, hub: HubTable | None) -> Task:
    return task if hub is None else replace(task, splits={**task.splits, **hub.splits})
