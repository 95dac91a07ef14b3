"""InfographicVQA: questions about infographics, some of whose answers are lists."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.evaluation.targets import AnyOrder, Field
from paligemma2.evaluation.task import Download, HubTable, Row, Task
from paligemma2.metrics.anls import ANLS
from paligemma2.training.recipes import TransferRecipe

_IMAGE = "image_local_name"

TASK = Task(
    title="InfoVQA",
    source="Mathew et al. 2022, arXiv:2104.12756",
    splits={
        "train": JsonRecords(
            file="infographicsVQA_train_v1.0.json", rows="data", image=_IMAGE, id="questionId"
        ),
        "val": JsonRecords(
            file="infographicsVQA_val_v1.0_withQT.json", rows="data", image=_IMAGE, id="questionId"
        ),
        "test": JsonRecords(
            file="infographicsVQA_test_v1.0.json", rows="data", image=_IMAGE, id="questionId"
        ),
    },
    prefix="answer en {question}",
    suffix=Field("answers", lower=True),
    references=AnyOrder(Field("answers", lower=True)),
    rows=(
        Row(
            title="InfoVQA (val)",
            splits=("val",),
            metric=ANLS,
            published=(25.2, 33.6, 36.4, 37.5, 47.8, 46.7),
            num_examples=2_801,
        ),
    ),
    train="train",
    num_train=23_946,
    tune=("train", "val"),
    text_length=48,
    recipe=TransferRecipe(
        text_length=48,
        epochs=3,
        batch_size=(256, 128, 32),
        learning_rate=(1e-05, 1e-05, 3e-06),
        weight_decay=(1e-06, 1e-06, 3e-07),
        label_smoothing=0.4,
        paligemma2=(3e-06, 6e-07, 3e-07),
    ),
    hub=HubTable(
        id="lmms-lab/DocVQA",
        splits={
            "val": ParquetRecords(files="InfographicVQA/validation-*.parquet", id="questionId"),
            "test": ParquetRecords(files="InfographicVQA/test-*.parquet", id="questionId"),
        },
    ),
    downloads=(
        Download(
            what="questions, answers and infographics (an account is needed)",
            url="https://rrc.cvc.uab.es/?ch=17&com=downloads",
            licence="not stated",
        ),
    ),
    test_split="test",
    submission="docvqa",
    miniature="read",
    notes=(
        "A validation answer with `, ` in it counts in every order of its parts, as in big_vision's data; "
        "lists of more than eight parts stay as they are.",
        "big_vision would also train on these orders where it trains on validation; here training takes the "
        "answers as they are written.",
    ),
)
