"""OK-VQA: questions that need knowledge from outside of the picture."""

from paligemma2.data.readers.question_records import QuestionRecords
from paligemma2.evaluation.picture_sets import COCO_TRAIN2014, COCO_VAL2014
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.vqa import OKVQA_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="OK-VQA",
    source="Marino et al. 2019, arXiv:1906.00067",
    splits={
        split: QuestionRecords(
            questions=f"OpenEnded_mscoco_{split}2014_questions.json",
            annotations=f"mscoco_{split}2014_annotations.json",
            image=f"COCO_{split}2014_{{image_id:012d}}.jpg",
        )
        for split in ("train", "val")
    },
    prefix="answer en {question}",
    suffix=Field("answers", item="answer"),
    meta=("question_type",),
    rows=(
        Row(
            title="OKVQA",
            splits=("val",),
            metric=OKVQA_ACCURACY,
            published=(64.2, 68.0, 71.2, 64.1, 68.6, 70.6),
            num_examples=5_046,
        ),
    ),
    train="train",
    num_train=9_009,
    tune=("train[:-10%]", "train[-10%:]"),
    text_length=32,
    recipe=TransferRecipe(
        text_length=32, epochs=10, batch_size=128, learning_rate=5e-06, paligemma2=(3e-06, 1e-06, 1e-06)
    ),
    downloads=(
        Download(
            what="questions and answers",
            url="https://okvqa.allenai.org/download.html",
            licence="not stated",
        ),
        COCO_TRAIN2014,
        COCO_VAL2014,
    ),
    miniature="question",
    notes=(
        "Answers are the field `answer`, which is stemmed, in training and in scoring; `raw_answer` is not "
        "used.",
        "The card's rule does not normalise answers, so that official numbers differ a little.",
        "Which rows are the last 10 % depends on the order of TFDS; ours is the order of the file.",
    ),
)
