"""The folder where the user put a data set, read as it lies."""

from functools import cached_property
from pathlib import Path

from paligemma2.data.pictures import SUFFIXES
from paligemma2.errors import DataError
from paligemma2.types import ImageSource

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")


class DataFolder:
    """Finds the files and the pictures of a data set.

    Args:
        root: the folder.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder", hint="give the folder of the data set")
        self.root = root

    def file(self, name: str) -> Path:
        """The file with this name, wherever it lies below the folder.

        Args:
            name: with the last folders of its path, if these are needed to tell it from others.

        Raises:
            DataError: there is none, or there are several.
        """
        exact = self.root / name
        if exact.is_file():
            return exact
        found = [path for path in self._files if path.as_posix().endswith(f"/{name}")]
        if len(found) == 1:
            return found[0]
        problem = "is not there" if not found else f"is there {len(found)} times"
        raise DataError(
            f"{name} {problem} in {self.root}", hint="give the folder of the data set's own files"
        )

    def image(self, name: str) -> ImageSource | None:
        """The picture of this name, or None.

        Args:
            name: of the file, with or without the last folders of its path; without suffix if the data set
                names none.
        """
        return self._images.get(name) or self._images.get(Path(name).name)

    def video(self, name: str) -> Path | None:
        """The video of this name, or None."""
        return self._videos.get(name)

    @cached_property
    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    @cached_property
    def _images(self) -> dict[str, ImageSource]:
        found: dict[str, ImageSource] = {}
        for path in self._files:
            if path.suffix.lower() in SUFFIXES:
                for name in (path.relative_to(self.root).as_posix(), path.name, path.stem):
                    found.setdefault(name, path)
        return found

    @cached_property
    def _videos(self) -> dict[str, Path]:
        return {path.stem: path for path in self._files if path.suffix.lower() in VIDEO_SUFFIXES}
