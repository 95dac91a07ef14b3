"""NLVR2: is a sentence true of two pictures."""

from paligemma2.data.readers.nlvr import NlvrRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.nlvr2 import NLVR2_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="NLVR2",
    source="Suhr et al. 2019, arXiv:1811.00491",
    splits={
        "train": NlvrRecords(file="train.json"),
        "dev": NlvrRecords(file="dev.json"),
        "test": NlvrRecords(file="test1.json"),
    },
    prefix="answer en {sentence}",
    suffix=Field("label"),
    meta=("identifier",),
    rows=(
        Row(
            title="NLVR2",
            splits=("test",),
            metric=NLVR2_ACCURACY,
            published=(91.4, 93.9, 94.2, 91.6, 93.7, 94.1),
            num_examples=6_967,
        ),
    ),
    train="train + dev",
    num_train=93_355,
    tune=("train", "dev"),
    text_length=64,
    num_pictures=2,
    antialias=False,
    recipe=TransferRecipe(
        text_length=64,
        epochs=(3, 10, 10),
        batch_size=256,
        learning_rate=(1e-05, 3e-06, 3e-06),
        weight_decay=(1e-06, 3e-07, 3e-07),
        paligemma2=(6e-06, 1e-06, 3e-06),
        alternatives=((), (3e-06,), (6e-06,)),
    ),
    downloads=(
        Download(
            what="sentences",
            url="https://github.com/lil-lab/nlvr/tree/master/nlvr2/data",
            licence="CC BY 4.0",
        ),
        Download(
            what="pictures (a form must be filled in)",
            url="https://lil.nlp.cornell.edu/nlvr/",
            licence="of each picture",
        ),
    ),
    miniature="pair",
    notes=(
        "The left picture comes first.",
        "PaliGemma 2 trained at 448 pixels with the settings for 224 pixels: 3 epochs.",
    ),
)
