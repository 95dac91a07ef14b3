"""ST-VQA: questions about text in scenes."""

from paligemma2.data.readers.stvqa import StVqaRecords
from paligemma2.evaluation.picture_sets import COCO_TRAIN2014
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.anls import ANLS
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="ST-VQA",
    source="Biten et al. 2019, arXiv:1905.13648",
    splits={
        "train": StVqaRecords(file="train_task_3.json", part="train"),
        "val": StVqaRecords(file="train_task_3.json", part="val"),
        "test": StVqaRecords(file="test_task_3.json"),
    },
    prefix="answer en {question}",
    suffix=Field("answers", lower=True),
    rows=(
        Row(
            title="ST-VQA (val)",
            splits=("val",),
            metric=ANLS,
            published=(61.9, 64.3, 65.1, 80.5, 82.0, 81.8),
            num_examples=2_628,
        ),
    ),
    train="train",
    num_train=23_446,
    tune=("train", "val"),
    text_length=48,
    recipe=TransferRecipe(
        text_length=48,
        epochs=3,
        batch_size=(256, 128, 32),
        learning_rate=(1e-05, 1e-05, 3e-06),
        weight_decay=(1e-06, 1e-06, 3e-07),
        label_smoothing=0.1,
        paligemma2=(6e-06, 3e-06, 3e-06),
    ),
    exact=False,
    inexact_reason="which pictures of the training set the paper validates on was not published",
    downloads=(
        Download(
            what="questions, answers and pictures (an account is needed)",
            url="https://rrc.cvc.uab.es/?ch=11&com=downloads",
            licence="not stated",
        ),
        COCO_TRAIN2014,
    ),
    test_split="test",
    submission="stvqa",
    miniature="read",
    notes=(
        "Validation pictures are those of `stvqa_val_images.txt`, one `file_path` a line, if it is there, "
        "or a tenth of the pictures is drawn by their names.",
        "The counts of the paper's split equal those of the M4C files in mmf, which is a likely source.",
    ),
)
