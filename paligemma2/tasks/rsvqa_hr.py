"""RSVQA of high resolution: questions about pictures from aeroplanes."""

from paligemma2.data.readers.rsvqa import RsvqaRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.rsvqa import RSVQA_ACCURACY
from paligemma2.training.recipes import TransferRecipe

_NUMERIC = ("area", "count")

TASK = Task(
    title="RSVQA-hr",
    source="Lobry et al. 2020, arXiv:2003.07333",
    splits={
        "train": RsvqaRecords(split="USGS_split_train", image=".png", without=_NUMERIC),
        "val": RsvqaRecords(split="USGS_split_val", image=".png", without=_NUMERIC),
        "test": RsvqaRecords(split="USGS_split_test", image=".png", without=_NUMERIC),
        "test2": RsvqaRecords(split="USGS_split_test_phili", image=".png", without=_NUMERIC),
    },
    prefix="answer en {question}",
    suffix=Field("answer", lower=True),
    meta=("type",),
    rows=(
        Row(
            title="RSVQA-hr (test)",
            splits=("test",),
            metric=RSVQA_ACCURACY,
            published=(92.7, 92.6, 92.7, 92.8, 92.8, 92.8),
            num_examples=131_468,
        ),
        Row(
            title="RSVQA-hr (test2)",
            splits=("test2",),
            metric=RSVQA_ACCURACY,
            published=(90.9, 90.8, 90.9, 90.7, 90.7, 90.8),
            num_examples=62_554,
        ),
    ),
    train="train + val",
    num_train=432_239,
    tune=("train", "val"),
    text_length=32,
    antialias=False,
    train_antialias=True,
    recipe=TransferRecipe(
        text_length=32, epochs=1, batch_size=256, learning_rate=1e-05, paligemma2=(1e-05, 6e-06, 6e-07)
    ),
    downloads=(
        Download(
            what="questions, answers and pictures",
            url="https://zenodo.org/records/6344367",
            licence="as the record on Zenodo states",
            gigabytes=14.0,
        ),
    ),
    miniature="yes_no",
    notes=(
        "Questions about areas and counts are left out; the number is the mean over the other types.",
        "`test2` is of another city (Philadelphia).",
    ),
)
