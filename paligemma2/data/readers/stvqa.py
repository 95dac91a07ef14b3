"""ST-VQA: questions about text in scenes, whose validation rows are part of the training file."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, row_of
from paligemma2.data.readers.records import Record

_VAL_SHARE = 2628 / 26074
"""Of the questions, that are big_vision's validation split (`datasets/stvqa/stvqa.py`)."""
_COCO = "coco-text/"


@dataclass(frozen=True, kw_only=True)
class StVqaRecords:
    """Rows under `data`, with `question_id`, `file_path`, `question` and, of `train_task_3.json`, `answers`.

    Pictures of COCO-Text are those of COCO's train2014, which are larger, if they are there.

    Attributes:
        file: its name.
        part: "train" or "val" of the training file; "" for all rows.
        val_images: a file with the `file_path` of a validation picture on each line. Without it, pictures are
            drawn by their names, about as many.
    """

    file: str
    part: str = ""
    val_images: str = "stvqa_val_images.txt"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        is_val = _validation(folder, self.val_images)
        for number, row in enumerate(read_list(folder, self.file, "data")):
            with row_of(self.file, number):
                path: str = row["file_path"]
                if self.part and is_val(path) != (self.part == "val"):
                    continue
                picture = f"train2014/{path.removeprefix(_COCO)}" if path.startswith(_COCO) else path
                record = Record(id=str(row["question_id"]), pictures=(picture,), fields=row, unit=path)
            yield record


def _validation(folder: DataFolder, name: str) -> Callable[[str], bool]:
    if not folder.names(name):
        return _is_drawn
    with folder.open(name) as file:
        listed = {line.strip().decode("utf-8", "replace") for line in file}
    return listed.__contains__


def _is_drawn(path: str) -> bool:
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") < _VAL_SHARE * 2**64
