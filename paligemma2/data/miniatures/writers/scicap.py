"""SciCap: a file for each figure, and a list of the figures of a split."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.scicap import SciCapFigures

_ROOT = "scicap_data"


def write(files: Files, reader: SciCapFigures, contents: Sequence[Content]) -> None:
    """The figures of one split."""
    folder = f"{_ROOT}/List-of-Files-for-Each-Experiments/{reader.experiment}/{reader.split}"
    names = files.rows(f"{folder}/file_idx.json")
    for content in contents:
        figure = f"{content.number:06d}v1-Figure1-1"
        text = content.captions["en"][0]
        caption = {"caption": text, "sentence": [text], "token": text.split()}
        files.picture(f"{_ROOT}/SciCap-No-Subfig-Img/{reader.split}/{figure}.png", content.pictures[0])
        files.table(
            f"{_ROOT}/SciCap-Caption-All/{reader.split}/{figure}.json",
            **{"figure-ID": f"{figure}.png", "0-originally-extracted": text, reader.caption: caption},
        )
        names.append(f"{figure}.png")
