"""A-OKVQA, multiple choice: questions that need knowledge of the world, with four answers to choose from."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.picture_sets import COCO_TEST2017, COCO_TRAIN2017, COCO_VAL2017
from paligemma2.evaluation.targets import Choice
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.exact import AOKVQA_MULTIPLE_CHOICE
from paligemma2.training.recipes import TransferRecipe

_IMAGE = "{image_id:012d}.jpg"

TASK = Task(
    title="A-OKVQA (multiple choice)",
    source="Schwenk et al. 2022, arXiv:2206.01718",
    splits={
        split: JsonRecords(
            file=f"aokvqa_v1p0_{split}.json", image=_IMAGE, id="question_id", choices="choices"
        )
        for split in ("train", "val", "test")
    },
    prefix="answer en  {question} choose from: {options}",
    suffix=Choice("choices", "correct_choice_idx"),
    rows=(
        Row(
            title="AOKVQA-MC (val)",
            splits=("val",),
            metric=AOKVQA_MULTIPLE_CHOICE,
            published=(79.7, 83.7, 84.7, 82.5, 85.9, 87.0),
            num_examples=1_145,
        ),
    ),
    train="train",
    num_train=17_056,
    tune=("train", "val"),
    text_length=128,
    recipe=TransferRecipe(
        text_length=128, epochs=15, batch_size=128, learning_rate=5e-06, paligemma2=(3e-06, 3e-07, 1e-06)
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
    miniature="choice",
    notes=(
        "The prompt has two spaces after `en`, as big_vision's code makes it; the paper prints one.",
        "Options stand between space, tab and space.",
        "The test server wants direct answers and choices in one file: join it with that of aokvqa_da.",
    ),
)
