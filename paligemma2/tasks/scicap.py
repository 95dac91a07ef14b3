"""SciCap: captions of figures of papers."""

from paligemma2.data.readers.scicap import SciCapFigures
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="SciCap",
    source="Hsu et al. 2021, arXiv:2110.11624",
    splits={split: SciCapFigures(split=split) for split in ("train", "val", "test")},
    prefix="caption en",
    suffix=Field("caption"),
    rows=(
        Row(
            title="SciCap",
            splits=("test",),
            metric=CIDER,
            published=(165.1, 159.5, 156.9, 183.3, 177.2, 172.7),
            num_examples=13_355,
        ),
    ),
    text_length=96,
    train="train + val",
    num_train=120_188,
    tune=("train", "val"),
    recipe=TransferRecipe(
        text_length=96,
        epochs=80,
        batch_size=256,
        learning_rate=3e-05,
        dropout=0.1,
        label_smoothing=0.1,
        paligemma2=(3e-05, 3e-05, 3e-05),
    ),
    antialias=False,
    downloads=(
        Download(
            what="figures and captions",
            url="https://www.dropbox.com/s/t1sjqesl0pynaxo/scicap_data.zip",
            licence="CC BY-NC-SA 4.0",
            gigabytes=18,
        ),
    ),
    miniature="caption",
    notes=(
        (
            "The set of first sentences of figures without parts; the caption in lower case, tokenised, "
            "without the number of the figure."
        ),
    ),
)
