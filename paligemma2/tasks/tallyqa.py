"""TallyQA: counting questions, simple ones and those that need relations or properties."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.picture_sets import COCO_TRAIN2014, COCO_VAL2014
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.number_match import NUMBER_MATCH
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="TallyQA",
    source="Acharya et al. 2019, arXiv:1810.12440",
    splits={
        "train": JsonRecords(file="train.json", id="question_id"),
        "test_simple": JsonRecords(file="test.json", id="question_id", where={"issimple": True}),
        "test_complex": JsonRecords(file="test.json", id="question_id", where={"issimple": False}),
    },
    prefix="answer en {question}",
    suffix=Field("answer"),
    rows=(
        Row(
            title="TallyQA (complex)",
            splits=("test_complex",),
            metric=NUMBER_MATCH,
            published=(70.3, 73.4, 74.2, 73.6, 76.7, 76.8),
            num_examples=15_598,
        ),
        Row(
            title="TallyQA (simple)",
            splits=("test_simple",),
            metric=NUMBER_MATCH,
            published=(81.8, 83.2, 83.4, 85.3, 86.2, 85.7),
            num_examples=22_991,
        ),
    ),
    train="train",
    num_train=249_318,
    tune=("train", "test_simple + test_complex"),
    text_length=32,
    recipe=TransferRecipe(
        text_length=32,
        epochs=2,
        batch_size=256,
        learning_rate=(1e-05, 1e-05, 7e-06),
        weight_decay=(0, 1e-06, 7e-07),
        paligemma2=(1e-05, 3e-06, 3e-06),
        alternatives=((6e-06,), (6e-07,), ()),
    ),
    downloads=(
        Download(
            what="questions and answers (tallyqa.zip)",
            url="https://github.com/manoja328/tallyqa",
            licence="not stated",
        ),
        Download(
            what="pictures of Visual Genome (images.zip, images2.zip)",
            url="https://homes.cs.washington.edu/~ranjay/visualgenome/api.html",
            licence="CC BY 4.0",
            gigabytes=14.7,
        ),
        COCO_TRAIN2014,
        COCO_VAL2014,
    ),
    miniature="count",
    notes=("The paper chose its learning rates on the test set.",),
)
