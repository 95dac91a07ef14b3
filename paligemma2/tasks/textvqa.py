"""TextVQA: questions about text in photographs, each with ten answers of people."""

from paligemma2.data.readers.textvqa import TextVqaRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.vqa import TEXTVQA_ACCURACY
from paligemma2.training.recipes import TransferRecipe

_TRAIN_ROTATIONS = "train-images-boxable-with-rotation.csv"
_TEST_ROTATIONS = "test-images-with-rotation.csv"

TASK = Task(
    title="TextVQA",
    source="Singh et al. 2019, arXiv:1904.08920",
    splits={
        "train": TextVqaRecords(file="TextVQA_0.5.1_train.json", rotations=_TRAIN_ROTATIONS),
        "val": TextVqaRecords(file="TextVQA_0.5.1_val.json", rotations=_TRAIN_ROTATIONS),
        "test": TextVqaRecords(file="TextVQA_0.5.1_test.json", rotations=_TEST_ROTATIONS),
    },
    prefix="answer en {question}",
    suffix=Field("answers"),
    rows=(
        Row(
            title="TextVQA (val)",
            splits=("val",),
            metric=TEXTVQA_ACCURACY,
            published=(59.6, 64.0, 64.7, 75.2, 76.6, 76.2),
            num_examples=5_000,
        ),
    ),
    train="train",
    num_train=34_602,
    tune=("train", "val"),
    text_length=32,
    recipe=TransferRecipe(
        text_length=32,
        epochs=(5, 10, 10),
        batch_size=256,
        learning_rate=3e-06,
        weight_decay=(0, 3e-07, 0),
        paligemma2=(3e-06, 6e-07, 1e-06),
    ),
    downloads=(
        Download(
            what="questions and answers",
            url="https://textvqa.org/dataset/",
            licence="CC BY 4.0",
            gigabytes=0.1,
        ),
        Download(
            what="pictures (train_val_images.zip, test_images.zip)",
            url="https://textvqa.org/dataset/",
            licence="CC BY 2.0, as listed by Open Images",
            gigabytes=7.5,
        ),
        Download(
            what=f"tables of rotations ({_TRAIN_ROTATIONS}, {_TEST_ROTATIONS})",
            url="https://storage.googleapis.com/openimages/2018_04/",
            licence="CC BY 4.0",
        ),
    ),
    test_split="test",
    submission="vqa",
    miniature="read",
    notes=(
        "Pictures that Open Images marks as rotated are turned upright first; big_vision saves them as JPEG "
        "again after that, which is not done here.",
        "The card's rule is VQAv2's, not that of TextVQA's script (M4C), which always normalises.",
    ),
)
