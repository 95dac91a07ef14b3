"""VizWiz-VQA: questions that blind people asked about photographs that they took."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, HubTable, Row, Task
from paligemma2.metrics.vqa import VIZWIZ_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="VizWiz-VQA",
    source="Gurari et al. 2018, arXiv:1802.08218",
    splits={
        "train": JsonRecords(file="annotations/train.json", id="image"),
        "val": JsonRecords(file="annotations/val.json", id="image"),
        "test": JsonRecords(file="annotations/test.json", id="image"),
    },
    prefix="answer en {question}",
    suffix=Field("answers", item="answer", skip_empty=True),
    references=Field("answers", item="answer"),
    rows=(
        Row(
            title="VizWizVQA (val)",
            splits=("val",),
            metric=VIZWIZ_ACCURACY,
            published=(76.4, 78.1, 78.7, 77.5, 78.6, 78.9),
            num_examples=4_319,
        ),
    ),
    train="train",
    num_train=20_523,
    tune=("train", "val"),
    text_length=48,
    antialias=False,
    train_antialias=True,
    recipe=TransferRecipe(
        text_length=48, epochs=10, batch_size=256, learning_rate=1e-05, paligemma2=(1e-05, 3e-06, 3e-06)
    ),
    hub=HubTable(
        id="lmms-lab/VizWiz-VQA",
        splits={
            "val": ParquetRecords(files="data/val-*.parquet", id="question_id"),
            "test": ParquetRecords(files="data/test-*.parquet", id="question_id"),
        },
    ),
    downloads=(
        Download(
            what="questions, answers and pictures",
            url="https://vizwiz.org/tasks-and-datasets/vqa/",
            licence="CC BY 4.0",
        ),
    ),
    test_split="test",
    submission="vizwiz",
    miniature="read",
    notes=(
        "`unanswerable` is an answer as any other; nothing is normalised in the card's rule.",
        "On the hub (lmms-lab/VizWiz-VQA, 6.1 GB) columns are as its card lists them; whether `question_id` "
        "is the name that the server wants was not verified.",
    ),
)
