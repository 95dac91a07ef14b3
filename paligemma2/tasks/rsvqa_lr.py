"""RSVQA of low resolution: questions about pictures from a satellite."""

from paligemma2.data.readers.rsvqa import RsvqaRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.rsvqa import RSVQA_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="RSVQA-lr",
    source="Lobry et al. 2020, arXiv:2003.07333",
    splits={
        split: RsvqaRecords(split=f"LR_split_{split}", image=".tif", without=("count",))
        for split in ("train", "val", "test")
    },
    prefix="answer en {question}",
    suffix=Field("answer", lower=True),
    meta=("type",),
    rows=(
        Row(
            title="RSVQA-lr",
            splits=("test",),
            metric=RSVQA_ACCURACY,
            published=(93.0, 92.8, 93.5, 92.7, 93.1, 93.7),
            num_examples=6_782,
        ),
    ),
    train="train + val",
    num_train=47_173,
    tune=("train", "val"),
    text_length=32,
    antialias=False,
    train_antialias=True,
    recipe=TransferRecipe(
        text_length=32,
        epochs=3,
        batch_size=256,
        learning_rate=3e-06,
        label_smoothing=0.2,
        paligemma2=(3e-06, 1e-05, 6e-06),
        alternatives=((), (), (1e-05,)),
    ),
    downloads=(
        Download(
            what="questions, answers and pictures",
            url="https://zenodo.org/records/6344334",
            licence="as the record on Zenodo states",
            gigabytes=0.2,
        ),
    ),
    miniature="yes_no",
    notes=(
        "Questions that count are left out; the number is the mean over the other types.",
        "big_vision reads pictures with tifffile and cuts their values to 8 bits; here Pillow reads them.",
        "The sizes that sources give for train and val together differ: 46,223 and 47,173.",
    ),
)
