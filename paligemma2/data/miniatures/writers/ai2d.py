"""AI2D: a file of questions and one of texts for each diagram."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import SIDE, Content
from paligemma2.data.miniatures.files import Files, text_lines
from paligemma2.data.readers.ai2d import Ai2dRecords

_LABELLED = 4
"""Of so many diagrams, one has a text that a letter is painted over."""
_CORNER = SIDE - 14


def write(files: Files, reader: Ai2dRecords, contents: Sequence[Content]) -> None:
    """The diagrams of the test list, or others."""
    test_ids = files.rows(reader.test_ids, text_lines)
    for content in contents:
        name = f"{content.number}.png"
        files.picture(f"images/{name}", content.pictures[0])
        is_labelled = content.number % _LABELLED == 0
        if reader.is_test:
            test_ids.append(content.number)
        questions = {
            each.question: {
                "questionId": f"{name}-{place}",
                "answerTexts": list(each.choices),
                "correctAnswer": each.choices.index(each.answer),
                "abcLabel": is_labelled,
            }
            for place, each in enumerate(content.asked)
        }
        files.table(f"questions/{name}.json", imageName=name, questions=questions)
        label = {
            "labelId": "T0",
            "rectangle": [[_CORNER, _CORNER], [SIDE - 1, SIDE - 1]],
            "replacementText": "a",
            "value": "shape",
        }
        files.table(f"annotations/{name}.json", imageName=name, text={"T0": label} if is_labelled else {})
