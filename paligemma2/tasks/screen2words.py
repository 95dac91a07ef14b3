"""Screen2Words: what a screen of a phone is for."""

from paligemma2.data.readers.rico import ScreenSummaries
from paligemma2.evaluation.picture_sets import RICO
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="Screen2Words",
    source="Wang et al. 2021, arXiv:2108.03353",
    splits={split: ScreenSummaries(split=f"split/{split}_screens.txt") for split in ("train", "dev", "test")},
    prefix="caption en",
    suffix=Field("captions"),
    rows=(
        Row(
            title="Screen2Words",
            splits=("test",),
            metric=CIDER,
            published=(113.3, 117.8, 122.8, 114.0, 119.1, 123.4),
            num_examples=4_310,
        ),
    ),
    text_length=24,
    train="train + dev",
    num_train=18_107,
    tune=("train", "dev"),
    recipe=TransferRecipe(
        text_length=24,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        dropout=0.3,
        label_smoothing=0.2,
        paligemma2=(6e-06, 1e-06, 1e-06),
    ),
    antialias=False,
    downloads=(
        Download(
            what="summaries and splits",
            url="https://github.com/google-research-datasets/screen2words",
            licence="CC BY 4.0",
        ),
        RICO,
    ),
    miniature="caption",
)
