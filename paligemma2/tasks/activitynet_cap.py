"""ActivityNet Captions: sentences about parts of long videos."""

from paligemma2.data.readers.videos import VideoSegments
from paligemma2.evaluation.picture_sets import ACTIVITYNET_VIDEOS
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Frames, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="ActivityNet Captions",
    source="Krishna et al. 2017, arXiv:1705.00754",
    splits={
        "train": VideoSegments(file="train.json"),
        "valid": VideoSegments(file="val_1.json"),
        "test": VideoSegments(file="val_2.json"),
    },
    prefix="caption en",
    suffix=Field("caption"),
    rows=(
        Row(
            title="ActivityNet-CAP",
            splits=("test",),
            metric=CIDER,
            published=(34.2, 35.9, None, None, None, None),
            num_examples=13_982,
        ),
    ),
    text_length=64,
    train="train + valid",
    num_train=44_775,
    tune=("train", "valid"),
    recipe=TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=1e-05,
        weight_decay=1e-06,
        is_image_frozen=True,
        paligemma2=(3e-06, 3e-06, None),
        alternatives=((1e-05,), (), ()),
    ),
    frames=Frames(16, 30),
    antialias=False,
    exact=False,
    inexact_reason="the loaders of videos were never released, and many videos are gone from the web",
    downloads=(
        Download(
            what="times and sentences",
            url="https://cs.stanford.edu/people/ranjaykrishna/densevid/captions.zip",
            licence="not stated",
        ),
        ACTIVITYNET_VIDEOS,
    ),
    miniature="video_caption",
    notes=(
        (
            "What the paper calls valid and test is not stated. By size they are val_1 and val_2: 14,338 and "
            "13,982 parts were there of 17,505 and 17,031, and of train 30,545 of 37,421, 82 % each."
        ),
        "Each part has one reference.",
        (
            "Training of the paper starts clips that are long enough at a random frame; here every clip "
            "starts at its first."
        ),
        (
            "How the paper decoded videos is not known: frames are counted as the file has them, at its own "
            "rate."
        ),
    ),
)
