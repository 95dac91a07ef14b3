from io import BytesIO
from pathlib import Path

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.errors import DataError, HubError
from paligemma2.evaluation.examples import read_examples
from paligemma2.evaluation.open_data import open_data
from paligemma2.evaluation.task import HubTable
from paligemma2.processing.image import open_image
from tests.small_task import small_task, write_colours

HUB = HubTable(id="Owner/Colours", splits={"val": ParquetRecords(files="data/val-*.parquet", id="n")})
TASK = small_task(hub=HUB)


def write_hub_files(folder: Path) -> Path:
    rows = []
    for number, colour in enumerate(("red", "blue")):
        data = BytesIO()
        Image.new("RGB", (4, 4), colour).save(data, "PNG")
        picture = {"bytes": data.getvalue(), "path": None}
        rows.append({"image": picture, "n": number, "question": "which?", "answer": colour})
    (folder / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data/val-0.parquet")
    return folder


def test_a_folder_with_the_authors_files(tmp_path: Path) -> None:
    task, folder = open_data(TASK, str(write_colours(tmp_path / "a")))
    assert task == TASK
    assert read_examples(task, "val", folder).num_rows == 6


def test_a_folder_with_the_files_of_the_hub(tmp_path: Path) -> None:
    task, folder = open_data(TASK, write_hub_files(tmp_path / "b"))
    found = read_examples(task, "val", folder).examples
    assert [each.example.suffix for each in found] == ["red", "blue"]
    (picture,) = found[1].example.images
    assert open_image(picture).getpixel((0, 0)) == (0, 0, 255)  # type: ignore[arg-type]


def test_an_id_is_downloaded_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(hub_id: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.update(id=hub_id, type=repo_type, patterns=allow_patterns)
        return str(write_hub_files(tmp_path / "cache"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    task, folder = open_data(TASK, "owner/colours", ("val[:1]",))
    assert asked == {"id": "Owner/Colours", "type": "dataset", "patterns": ["data/val-*.parquet"]}
    assert read_examples(task, "val[:1]", folder).num_rows == 1


def test_an_unreachable_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(HubError, match="could not be reached: no network"):
        open_data(TASK, "Owner/Colours")


def test_files_that_the_hub_no_longer_has_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(HubError, match=r"has no file data/val-\*\.parquet"):
        open_data(TASK, "Owner/Colours")


def test_what_cannot_be_had_is_told_before_any_download() -> None:
    with pytest.raises(DataError, match="not known as 'Other/Colours'"):
        open_data(TASK, "Other/Colours")
    with pytest.raises(DataError, match="not known as 'Owner/Colours'"):
        open_data(small_task(), "Owner/Colours")
    with pytest.raises(DataError, match="has no split 'train'"):
        open_data(TASK, "Owner/Colours", ("train + val",))
    for source in ("no such folder", Path("a/b")):
        with pytest.raises(DataError, match="is not a folder"):
            open_data(TASK, source)
