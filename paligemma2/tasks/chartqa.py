"""ChartQA: questions about charts, written by people (human) and made from summaries (augmented)."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, HubTable, Row, Task
from paligemma2.metrics.relaxed import RELAXED_ACCURACY
from paligemma2.training.recipes import TransferRecipe

_KINDS = ("human", "augmented")

TASK = Task(
    title="ChartQA",
    source="Masry et al. 2022, arXiv:2203.10244",
    splits={
        f"{split}_{kind}": JsonRecords(file=f"{split}_{kind}.json", image="imgname")
        for split in ("train", "val", "test")
        for kind in _KINDS
    },
    prefix="{query}",
    suffix=Field("label"),
    rows=(
        Row(
            title="ChartQA (aug)",
            splits=("test_augmented",),
            metric=RELAXED_ACCURACY,
            published=(74.4, 74.2, 68.9, 89.2, 90.1, 85.1),
            num_examples=1_250,
        ),
        Row(
            title="ChartQA (human)",
            splits=("test_human",),
            metric=RELAXED_ACCURACY,
            published=(42.0, 48.4, 46.8, 54.0, 66.4, 61.3),
            num_examples=1_250,
        ),
    ),
    train="train_human + train_augmented + val_human + val_augmented",
    num_train=30_219,
    tune=("train_human + train_augmented", "val_human + val_augmented"),
    text_length=48,
    recipe=TransferRecipe(
        text_length=48,
        epochs=30,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        dropout=0.1,
        label_smoothing=0.2,
        paligemma2=(3e-06, 1e-06, 3e-07),
        alternatives=((), (3e-07,), ()),
    ),
    hub=HubTable(
        id="HuggingFaceM4/ChartQA",
        splits={
            f"{split}_{kind}": ParquetRecords(
                files=f"data/{split}-*.parquet", where={"human_or_machine": number}
            )
            for split in ("train", "val", "test")
            for number, kind in enumerate(_KINDS)
        },
    ),
    downloads=(
        Download(
            what="questions, answers and charts (ChartQA Dataset.zip)",
            url="https://huggingface.co/datasets/ahmed-masry/ChartQA",
            licence="GPL-3.0",
            gigabytes=1.0,
        ),
    ),
    miniature="chart",
    notes=(
        "The prompt is the question alone, without `answer en`.",
        "big_vision mixes both kinds in proportion to their sizes; so does one list of both.",
        "On the hub (HuggingFaceM4/ChartQA) the columns are as its card lists them; labels are lists of one.",
    ),
)
