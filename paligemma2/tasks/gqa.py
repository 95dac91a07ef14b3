"""GQA: questions about relations and properties, made from scene graphs."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.picture_sets import GQA_PICTURES
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.gqa import GQA_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="GQA",
    source="Hudson and Manning 2019, arXiv:1902.09506",
    splits={
        split: JsonRecords(file=f"{split}_balanced_questions.json", layout="mapping", image="{imageId}.jpg")
        for split in ("train", "val", "testdev")
    },
    prefix="answer en {question}",
    suffix=Field("answer"),
    meta=("question", "isBalanced", "types", "semantic", "groups"),
    rows=(
        Row(
            title="GQA",
            splits=("testdev",),
            metric=GQA_ACCURACY,
            published=(66.2, 67.2, 67.3, 68.1, 68.3, 68.3),
            num_examples=12_578,
        ),
    ),
    train="train + val",
    num_train=1_075_062,
    tune=("train", "val"),
    text_length=32,
    antialias=False,
    recipe=TransferRecipe(
        text_length=32,
        epochs=1,
        batch_size=256,
        learning_rate=1e-05,
        is_image_frozen=(False, True, True),
        paligemma2=(3e-06, 1e-06, 3e-06),
        alternatives=((6e-06,), (), ()),
    ),
    downloads=(
        Download(
            what="questions and answers (questions1.2.zip)",
            url="https://cs.stanford.edu/people/dorarad/gqa/download.html",
            licence="CC BY 4.0",
            gigabytes=1.4,
        ),
        GQA_PICTURES,
    ),
    miniature="question",
    notes=("The card's number is of testdev; the test set's answers are known to a server only.",),
)
