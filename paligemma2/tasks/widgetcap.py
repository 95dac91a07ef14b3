"""Widget Captioning: what a part of a screen of a phone does."""

from paligemma2.data.readers.rico import WidgetCaptions
from paligemma2.evaluation.picture_sets import RICO
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="Widget Captioning",
    source="Li et al. 2020, arXiv:2010.04295",
    splits={split: WidgetCaptions(split=f"split/{split}.txt") for split in ("train", "dev", "test")},
    prefix="caption en",
    suffix=Field("captions"),
    rows=(
        Row(
            title="WidgetCap",
            splits=("test",),
            metric=CIDER,
            published=(138.1, 139.8, 138.8, 151.4, 151.9, 148.9),
        ),
    ),
    text_length=32,
    train="train + dev",
    num_train=44_704,
    tune=("train", "dev"),
    recipe=TransferRecipe(
        text_length=32,
        epochs=4,
        batch_size=64,
        learning_rate=3e-06,
        weight_decay=3e-07,
        dropout=0.1,
        label_smoothing=0.1,
        paligemma2=(3e-06, 1e-06, 6e-07),
    ),
    antialias=True,
    downloads=(
        Download(
            what="captions and splits",
            url="https://github.com/google-research-datasets/widget-caption",
            licence="CC BY 4.0",
        ),
        RICO,
    ),
    miniature="caption",
    notes=(
        (
            "The part is shown by a red line of one pixel, drawn after the resize; bounds are in a canvas "
            "2,560 high."
        ),
        "Rows of other screens than RICO's (datasetId nr) are in no split and have no public pictures.",
        "Every configuration of captions but this one resizes without antialias.",
    ),
)
