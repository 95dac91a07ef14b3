"""OCR-VQA: questions about covers of books: title, author, genre."""

from paligemma2.data.readers.ocrvqa import OcrVqaRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.exact import EXACT_MATCH_LOWER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="OCR-VQA",
    source="Mishra et al. 2019, ICDAR",
    splits={
        "train": OcrVqaRecords(split=1),
        "val": OcrVqaRecords(split=2),
        "test": OcrVqaRecords(split=3),
    },
    prefix="answer en {question}",
    suffix=Field("answer"),
    rows=(
        Row(
            title="OCR-VQA",
            splits=("test",),
            metric=EXACT_MATCH_LOWER,
            published=(73.4, 74.7, 75.3, 75.7, 76.3, 76.6),
        ),
    ),
    train="train + val",
    num_train=901_717,
    tune=("train + val[20000:]", "val[:20000]"),
    text_length=32,
    recipe=TransferRecipe(
        text_length=32,
        epochs=3,
        batch_size=128,
        learning_rate=(3e-06, 3e-06, 1e-05),
        paligemma2=(1e-06, 3e-07, 3e-07),
        alternatives=((3e-06,), (), (6e-07,)),
    ),
    downloads=(
        Download(
            what="questions and answers (dataset.json), and covers by the authors' script",
            url="https://ocr-vqa.github.io/",
            licence="not stated",
        ),
    ),
    miniature="read",
    notes=(
        "big_vision's reader of OCR-VQA is not public; covers are found by the key of the book.",
        "Case is ignored in scoring; a released version of the configuration does not say so.",
        "The paper trained on 901,717 questions; covers that are gone from the shop are missing since.",
    ),
)
