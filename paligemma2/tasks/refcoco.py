"""RefCOCO, RefCOCO+ and RefCOCOg: the object that a sentence means, as box and mask; one model for all."""

from paligemma2.data.readers.referring_sentences import ReferringFiles, ReferringPictures, ReferringSentences
from paligemma2.evaluation.picture_sets import COCO_TRAIN2014
from paligemma2.evaluation.targets import ObjectTokens
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.segmentation import SEGMENTATION_IOU
from paligemma2.training.recipes import TransferRecipe

REFCOCO = ReferringFiles("refcoco", "unc")
REFCOCO_PLUS = ReferringFiles("refcoco+", "unc")
REFCOCOG = ReferringFiles("refcocog", "umd")

TASK = Task(
    title="RefCOCO, RefCOCO+, RefCOCOg",
    source="Yu et al. 2016, arXiv:1608.00272; Mao et al. 2016, arXiv:1511.02283",
    splits={
        "train": ReferringPictures(files=(REFCOCOG, REFCOCO, REFCOCO_PLUS)),
        **{
            f"{name}_{split}": ReferringSentences(files=files, split=split)
            for name, files, splits in (
                ("refcoco", REFCOCO, ("val", "testA", "testB")),
                ("refcoco_plus", REFCOCO_PLUS, ("val", "testA", "testB")),
                ("refcocog", REFCOCOG, ("val", "test")),
            )
            for split in splits
        },
    },
    prefix="{sentence}",
    suffix=ObjectTokens(),
    meta=("box", "mask"),
    rows=(
        Row(
            title="RefCOCO (val)",
            splits=("refcoco_val",),
            metric=SEGMENTATION_IOU,
            published=(73.4, 75.9, 75.0, 76.3, 78.2, 77.3),
            num_examples=10_834,
        ),
        Row(
            title="RefCOCO (testA)",
            splits=("refcoco_testA",),
            metric=SEGMENTATION_IOU,
            published=(75.7, 77.2, 76.8, 78.6, 79.7, 79.3),
            num_examples=5_657,
        ),
        Row(
            title="RefCOCO (testB)",
            splits=("refcoco_testB",),
            metric=SEGMENTATION_IOU,
            published=(71.0, 74.2, 73.9, 73.5, 76.2, 74.8),
            num_examples=5_095,
        ),
        Row(
            title="RefCOCO+ (val)",
            splits=("refcoco_plus_val",),
            metric=SEGMENTATION_IOU,
            published=(68.6, 72.0, 70.3, 72.1, 74.4, 72.8),
            num_examples=10_758,
        ),
        Row(
            title="RefCOCO+ (testA)",
            splits=("refcoco_plus_testA",),
            metric=SEGMENTATION_IOU,
            published=(72.7, 74.7, 73.6, 76.1, 77.7, 76.6),
            num_examples=5_726,
        ),
        Row(
            title="RefCOCO+ (testB)",
            splits=("refcoco_plus_testB",),
            metric=SEGMENTATION_IOU,
            published=(64.2, 68.4, 67.1, 67.0, 71.1, 68.6),
            num_examples=4_889,
        ),
        Row(
            title="RefCOCOg (val)",
            splits=("refcocog_val",),
            metric=SEGMENTATION_IOU,
            published=(68.3, 71.4, 70.5, 72.3, 74.4, 73.0),
            num_examples=4_896,
        ),
        Row(
            title="RefCOCOg (test)",
            splits=("refcocog_test",),
            metric=SEGMENTATION_IOU,
            published=(69.0, 71.9, 70.7, 72.7, 74.8, 73.7),
            num_examples=9_602,
        ),
    ),
    text_length=48,
    train="train",
    num_train=24_407,
    tune=("train", "refcoco_val + refcoco_plus_val + refcocog_val"),
    recipe=TransferRecipe(
        text_length=48,
        epochs=100,
        batch_size=(256, 256, 64),
        learning_rate=(3e-05, 1e-05, 1e-05),
        dropout=(0.1, 0, 0),
        label_smoothing=0.3,
        paligemma2=(1e-05, 3e-06, 1e-06),
        alternatives=((), (6e-07, 1e-06), (6e-07, 3e-06, 6e-06)),
    ),
    antialias=False,
    downloads=(
        Download(
            what="sentences and objects of refcoco",
            url="https://bvisionweb1.cs.unc.edu/licheng/referit/data/refcoco.zip",
            licence="of COCO's annotations: CC BY 4.0",
        ),
        Download(
            what="sentences and objects of refcoco+",
            url="https://bvisionweb1.cs.unc.edu/licheng/referit/data/refcoco+.zip",
            licence="of COCO's annotations: CC BY 4.0",
        ),
        Download(
            what="sentences and objects of refcocog",
            url="https://bvisionweb1.cs.unc.edu/licheng/referit/data/refcocog.zip",
            licence="of COCO's annotations: CC BY 4.0",
        ),
        COCO_TRAIN2014,
    ),
    miniature="refer",
    notes=(
        (
            "Training leaves out pictures that any val or test split has; each epoch asks for one object of "
            "a picture, with one of its sentences."
        ),
        (
            "One prediction for each sentence. The mean is over sentences, of the IoU in the size of the "
            "picture."
        ),
        (
            "big_vision reads the same objects from instances_train2017.json; here they come from the "
            "instances.json beside the sentences."
        ),
    ),
)
