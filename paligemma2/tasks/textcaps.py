"""TextCaps: captions that need the text in the picture."""

from paligemma2.data.readers.caption_rows import CaptionRows
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, HubTable, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="TextCaps",
    source="Sidorov et al. 2020, arXiv:2003.12462",
    splits={split: CaptionRows(file=f"TextCaps_0.1_{split}.json") for split in ("train", "val", "test")},
    prefix="caption en",
    suffix=Field("caption_str", lower=True),
    references=Field("caption_str"),
    rows=(
        Row(
            title="TextCaps",
            splits=("val",),
            metric=CIDER,
            published=(127.5, 137.9, 139.9, 152.1, 157.7, 153.6),
            num_examples=3_166,
        ),
    ),
    text_length=32,
    train="train",
    num_train=21_953,
    tune=("train[:98%]", "train[-2%:]"),
    recipe=TransferRecipe(
        text_length=32,
        epochs=5,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(1e-06, 1e-06, 3e-07),
        alternatives=((), (3e-06,), ()),
    ),
    beams=3,
    antialias=False,
    hub=HubTable(
        id="lmms-lab/TextCaps",
        splits={
            split: ParquetRecords(files=f"data/{split}-*.parquet", id="image_id")
            for split in ("train", "val", "test")
        },
    ),
    downloads=(
        Download(
            what="captions of train and val",
            url="https://dl.fbaipublicfiles.com/textvqa/data/textcaps/TextCaps_0.1_train.json",
            licence="CC BY 4.0",
        ),
        Download(
            what="pictures of train and val",
            url="https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip",
            licence="of each picture, listed as CC BY 2.0",
            gigabytes=6.6,
        ),
    ),
    test_split="test",
    submission="caption",
    miniature="caption",
    notes=(
        (
            "Captions are lower-cased in training; references are as they are, and the tokeniser of CIDEr "
            "lower-cases both."
        ),
        "The number is of val, as the README of PaliGemma in big_vision says; the test server has another.",
    ),
)
