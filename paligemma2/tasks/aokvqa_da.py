"""A-OKVQA, direct answers: questions that need knowledge of the world, each with ten answers of people."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.picture_sets import COCO_TEST2017, COCO_TRAIN2017, COCO_VAL2017
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.vqa import AOKVQA_DIRECT_ANSWER
from paligemma2.training.recipes import TransferRecipe

_IMAGE = "{image_id:012d}.jpg"

TASK = Task(
    title="A-OKVQA (direct answer)",
    source="Schwenk et al. 2022, arXiv:2206.01718",
    splits={
        "train": JsonRecords(file="aokvqa_v1p0_train.json", image=_IMAGE, id="question_id"),
        "val": JsonRecords(file="aokvqa_v1p0_val.json", image=_IMAGE, id="question_id"),
        "test": JsonRecords(file="aokvqa_v1p0_test.json", image=_IMAGE, id="question_id"),
    },
    prefix="answer en {question}",
    suffix=Field("direct_answers"),
    meta=("difficult_direct_answer",),
    rows=(
        Row(
            title="AOKVQA-DA (val)",
            splits=("val",),
            metric=AOKVQA_DIRECT_ANSWER,
            published=(64.2, 68.9, 70.2, 67.9, 70.8, 71.2),
            num_examples=1_145,
        ),
    ),
    train="train",
    num_train=17_056,
    tune=("train", "val"),
    text_length=32,
    recipe=TransferRecipe(
        text_length=32, epochs=10, batch_size=128, learning_rate=5e-06, paligemma2=(3e-06, 1e-06, 6e-07)
    ),
    downloads=(
        Download(
            what="questions and answers",
            url="https://prior-datasets.s3.us-east-2.amazonaws.com/aokvqa/aokvqa_v1p0.tar.gz",
            licence="Apache-2.0 (repository)",
        ),
        COCO_TRAIN2017,
        COCO_VAL2017,
        COCO_TEST2017,
    ),
    test_split="test",
    submission="aokvqa",
    miniature="question",
    notes=(
        "big_vision scores all questions; the official script leaves out those marked as difficult.",
        "The test server wants direct answers and choices in one file: join it with that of aokvqa_mc.",
    ),
)
