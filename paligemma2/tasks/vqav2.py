"""VQAv2: open questions about pictures of COCO, each with ten answers of people."""

from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.data.readers.question_records import QuestionRecords
from paligemma2.evaluation.picture_sets import COCO_TEST2015, COCO_TRAIN2014, COCO_VAL2014
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, HubTable, Row, Task
from paligemma2.metrics.vqa import VQAV2_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="VQAv2",
    source="Goyal et al. 2017, arXiv:1612.00837",
    splits={
        split: QuestionRecords(
            questions=f"v2_OpenEnded_mscoco_{year}_questions.json",
            annotations="" if split == "test" else f"v2_mscoco_{year}_annotations.json",
            image=f"COCO_{year}_{{image_id:012d}}.jpg",
        )
        for split, year in (("train", "train2014"), ("val", "val2014"), ("test", "test2015"))
    },
    prefix="answer en {question}",
    suffix=Field("answers", item="answer"),
    meta=("question_type", "answer_type"),
    rows=(
        Row(
            title="VQAv2 (minival)",
            splits=("val[-10240:]",),
            metric=VQAV2_ACCURACY,
            published=(83.0, 84.3, 84.5, 84.8, 85.8, 85.8),
            num_examples=10_240,
        ),
    ),
    train="train + val[:-10240]",
    num_train=647_871,
    tune=("train + val[:-10240]", "val[-10240:]"),
    text_length=32,
    recipe=TransferRecipe(
        text_length=32,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=(1e-06, 0, 0),
        paligemma2=(3e-06, 1e-06, 6e-07),
        alternatives=((), (), (1e-06,)),
    ),
    hub=HubTable(
        id="lmms-lab/VQAv2",
        splits={"val": ParquetRecords(files="data/validation-*.parquet", id="question_id")},
    ),
    exact=False,
    inexact_reason="which 10,240 questions of validation are the paper's depends on an order of TFDS",
    downloads=(
        Download(
            what="questions and answers",
            url="https://visualqa.org/download.html",
            licence="CC BY 4.0",
        ),
        COCO_TRAIN2014,
        COCO_VAL2014,
        COCO_TEST2015,
    ),
    test_split="test",
    submission="vqa",
    miniature="question",
    notes=(
        "Minival is the last 10,240 questions of validation in the order of the file, not Karpathy's.",
        "For the test server the paper trains on train and the whole of val.",
        "On the hub (lmms-lab/VQAv2) the columns are as its card lists them; the order of its rows was not "
        "verified.",
    ),
)
