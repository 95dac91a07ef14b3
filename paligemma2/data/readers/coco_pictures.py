"""Pictures of COCO, which its releases of 2014 and 2017 name differently."""

import re

from paligemma2.data.readers.data_folder import DataFolder

_NAME = re.compile(r"COCO_(train|val|test)\d{4}_(\d{12})(\.\w+)?")


def coco_name(folder: DataFolder, name: str) -> str:
    """The name under which a picture lies in the folder, or its name of 2014 if it does not.

    Args:
        folder: of the data set.
        name: as annotations of 2014 have it, "COCO_val2014_000000391895.jpg"; the release of 2017 has the
            same picture as "000000391895.jpg".
    """
    match = _NAME.fullmatch(name)
    if match is None or folder.image(name) is not None:
        return name
    later = f"{match[2]}.jpg"
    return later if folder.image(later) is not None else name


def coco_name_of_id(folder: DataFolder, number: int) -> str:
    """The same for a picture of which only the number is known."""
    names = [f"COCO_{split}2014_{number:012d}.jpg" for split in ("val", "train")]
    there = (name for name in names if folder.image(name) is not None)
    return next(there, f"{number:012d}.jpg")
