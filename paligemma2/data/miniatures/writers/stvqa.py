"""ST-VQA: one file to train and to validate on, and a list of the pictures of the latter."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.stvqa import StVqaRecords


def write(files: Files, reader: StVqaRecords, contents: Sequence[Content]) -> None:
    """The questions of one part, and its pictures on the list if it is validated on."""
    data, listed = files.table(reader.file, data=[])["data"], files.rows(reader.val_images)
    for content in contents:
        path = f"{'coco-text' if content.number % 2 else 'VizWiz'}/COCO_train2014_{content.number:012d}.jpg"
        files.picture(path, content.pictures[0])
        if reader.part == "val":
            listed.append(path)
        data.extend(
            {
                "question_id": content.number * 10 + place,
                "file_path": path,
                "question": asked.question,
                "answers": [asked.answer],
            }
            for place, asked in enumerate(content.asked)
        )
