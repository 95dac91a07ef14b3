"""Captions of COCO in the splits of Karpathy; the model of NoCaps too."""

from paligemma2.data.readers.coco_captions import KarpathyCaptions
from paligemma2.evaluation.picture_sets import COCO_TRAIN2014, COCO_VAL2014
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="COCO captions",
    source="Chen et al. 2015, arXiv:1504.00325; splits of Karpathy and Fei-Fei 2015, arXiv:1412.2306",
    splits={split: KarpathyCaptions(split=split) for split in ("train", "restval", "val", "test")},
    prefix="caption en",
    suffix=Field("captions"),
    rows=(
        Row(
            title="COCOcap",
            splits=("val",),
            metric=CIDER,
            published=(141.3, 143.7, 144.0, 143.4, 145.0, 145.2),
            num_examples=5_000,
        ),
    ),
    text_length=32,
    train="train + restval",
    num_train=113_287,
    tune=("train[:98%] + restval", "train[-2%:]"),
    recipe=TransferRecipe(
        text_length=32,
        epochs=5,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(3e-06, 6e-07, 6e-07),
        alternatives=((), (), (3e-06,)),
    ),
    beams=2,
    antialias=False,
    downloads=(
        Download(
            what="captions in Karpathy's splits, dataset_coco.json",
            url="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
            licence="of COCO's captions: CC BY 4.0",
        ),
        COCO_TRAIN2014,
        COCO_VAL2014,
    ),
    miniature="caption",
    notes=(
        "Reported on the 5,000 pictures of Karpathy's val, not of test.",
        "Five epochs over the pictures are one over their five captions each.",
    ),
)
