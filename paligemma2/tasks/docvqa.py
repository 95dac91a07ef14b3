"""DocVQA: questions about pages of scanned documents."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, HubTable, Row, Task
from paligemma2.metrics.anls import ANLS
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="DocVQA",
    source="Mathew et al. 2021, arXiv:2007.00398",
    splits={
        "train": JsonRecords(file="train_v1.0_withQT.json", rows="data", id="questionId"),
        "val": JsonRecords(file="val_v1.0_withQT.json", rows="data", id="questionId"),
        "test": JsonRecords(file="test_v1.0.json", rows="data", id="questionId"),
    },
    prefix="{question}",
    suffix=Field("answers"),
    rows=(
        Row(
            title="DocVQA (val)",
            splits=("val",),
            metric=ANLS,
            published=(39.9, 43.9, 44.9, 73.6, 76.6, 76.1),
            num_examples=5_349,
        ),
    ),
    train="train[:-5%]",
    num_train=39_463,
    tune=("train[:-5%]", "train[-5%:]"),
    answer_rule="choice",
    text_length=32,
    recipe=TransferRecipe(
        text_length=32,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(6e-06, 3e-06, 3e-06),
    ),
    hub=HubTable(
        id="lmms-lab/DocVQA",
        splits={
            "val": ParquetRecords(files="DocVQA/validation-*.parquet", id="questionId"),
            "test": ParquetRecords(files="DocVQA/test-*.parquet", id="questionId"),
        },
    ),
    downloads=(
        Download(
            what="questions, answers and pages (an account is needed)",
            url="https://rrc.cvc.uab.es/?ch=17&com=downloads",
            licence="not stated",
            gigabytes=9.6,
        ),
    ),
    test_split="test",
    submission="docvqa",
    miniature="read",
    notes=(
        "The prompt is the question alone, without `answer en`; answers keep their case in training.",
        "The released code trains on train without its last 5 %, or on train and val; which of these the row "
        "is of is not stated. It draws an answer anew each time instead of taking turns.",
        "Which rows are the last 5 % depends on the order of TFDS; ours is the order of the file.",
        "9.6 GB is the size of the parquet files on the hub, whose columns are as its card lists them.",
    ),
)
