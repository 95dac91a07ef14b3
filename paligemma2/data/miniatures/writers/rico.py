"""Screens of RICO, their summaries, and the captions of their parts."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.rico import ScreenSummaries, WidgetCaptions

_CANVAS = 2560  # high; and as wide, because the pictures are square


def write_summaries(files: Files, reader: ScreenSummaries, contents: Sequence[Content]) -> None:
    """The list of the screens, and rows of their summaries in the table of all splits."""
    screens, summaries = files.rows(reader.split), files.rows(reader.file)
    for content in contents:
        files.picture(f"combined/{content.number}.jpg", content.pictures[0])
        screens.append(content.number)
        summaries.extend({"screenId": content.number, "summary": text} for text in content.captions["en"])


def write_widgets(files: Files, reader: WidgetCaptions, contents: Sequence[Content]) -> None:
    """The list of the screens, their view hierarchies, and rows of captions of each object."""
    screens, captions = files.rows(reader.split), files.rows(reader.file)
    for content in contents:
        screen = content.number
        files.picture(f"combined/{screen}.jpg", content.pictures[0])
        screens.append(screen)
        bounds = [[round(edge) for edge in target.box.pixels(_CANVAS, _CANVAS)] for target in content.objects]
        children = [
            {"bounds": [x_min, y_min, x_max, y_max], "class": "android.widget.ImageView"}
            for y_min, x_min, y_max, x_max in bounds
        ]
        root = {"bounds": [0, 0, _CANVAS, _CANVAS], "children": children}
        files.table(f"combined/{screen}.json", activity={"root": root})
        captions.extend(
            {"screenId": screen, "nodeId": f"0.{place}", "captions": _captions(target.label)}
            for place, target in enumerate(content.objects)
        )


def _captions(name: str) -> str:
    """The name with its article and without."""
    _, _, plain = name.partition(" ")
    return f"{name}|{plain}"
