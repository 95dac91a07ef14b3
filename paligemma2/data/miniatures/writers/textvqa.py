"""TextVQA: rows under `data`, and Open Images' table of pictures that lie on their side."""

from collections.abc import Sequence

import numpy as np

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.textvqa import TextVqaRecords

_PEOPLE = 10
_QUARTERS = 4


def write(files: Files, reader: TextVqaRecords, contents: Sequence[Content]) -> None:
    """The questions of one split; of four pictures, one lies right and one on each of its other sides."""
    data, rotations = files.table(reader.file, data=[])["data"], files.rows(reader.rotations)
    for content in contents:
        image, quarters = f"{content.number:016x}", content.number % _QUARTERS
        lying = np.ascontiguousarray(np.rot90(content.pictures[0], -quarters))
        files.picture(f"train_images/{image}.jpg", lying)
        rotations.append({"ImageID": image, "Rotation": 90.0 * quarters})
        data.extend(
            {
                "question_id": content.number * 10 + place,
                "image_id": image,
                "question": asked.question,
                "answers": [asked.answer] * _PEOPLE,
            }
            for place, asked in enumerate(content.asked)
        )
