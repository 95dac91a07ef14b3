"""ScienceQA: questions of school lessons that have a picture, with options to choose from."""

from paligemma2.data.readers.scienceqa import ScienceQaRecords
from paligemma2.evaluation.targets import Text
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.scienceqa import SCIENCEQA_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="ScienceQA",
    source="Lu et al. 2022, arXiv:2209.09513",
    splits={
        "train": ScienceQaRecords(split="train", orders=24),
        "val": ScienceQaRecords(split="val", orders=24),
        "test": ScienceQaRecords(split="test"),
    },
    prefix="Question: {question}\nContext: {context}\nOptions: {options}\nAnswer:",
    suffix=Text("The answer is {letter}."),
    rows=(
        Row(
            title="ScienceQA",
            splits=("test",),
            metric=SCIENCEQA_ACCURACY,
            published=(96.1, 98.2, 98.2, 96.2, 98.5, 98.6),
            num_examples=2_017,
        ),
    ),
    train="train + val",
    num_train=8_315,
    tune=("train", "val"),
    text_length=512,
    antialias=False,
    recipe=TransferRecipe(
        text_length=512,
        epochs=20,
        batch_size=128,
        learning_rate=1e-05,
        is_image_frozen=True,
        paligemma2=(6e-06, 1e-06, 1e-06),
        alternatives=((), (3e-06,), ()),
    ),
    downloads=(
        Download(
            what="questions and answers (problems.json)",
            url="https://github.com/lupantech/ScienceQA/tree/main/data/scienceqa",
            licence="CC BY-NC-SA 4.0",
        ),
        Download(
            what="pictures (train, val and test)",
            url="https://scienceqa.github.io/#download",
            licence="CC BY-NC-SA 4.0",
        ),
    ),
    miniature="choice",
    notes=(
        "Questions without a picture are left out.",
        "big_vision shuffles the options anew each time; here up to 24 different orders take turns.",
        "Pictures lie in `<split>/<id>/`; their names alone are not unique.",
    ),
)
