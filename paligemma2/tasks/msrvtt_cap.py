"""MSR-VTT: captions of short videos."""

from paligemma2.data.readers.videos import VideoSentences
from paligemma2.evaluation.picture_sets import MSRVTT_VIDEOS
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Frames, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="MSR-VTT captions",
    source="Xu et al. 2016, MSR-VTT: A Large Video Description Dataset for Bridging Video and Language",
    splits={
        "train": VideoSentences(file="train_val_videodatainfo.json", split="train"),
        "valid": VideoSentences(file="train_val_videodatainfo.json", split="validate"),
        "test": VideoSentences(file="test_videodatainfo.json", split="test"),
    },
    prefix="caption en",
    suffix=Field("captions"),
    rows=(
        Row(
            title="MSRVTT-CAP",
            splits=("test",),
            metric=CIDER,
            published=(68.5, 72.1, None, None, None, None),
            num_examples=2_094,
        ),
    ),
    text_length=32,
    train="train + valid",
    num_train=4_965,
    tune=("train", "valid"),
    answer_rule="choice",
    recipe=TransferRecipe(
        text_length=32,
        epochs=20,
        batch_size=128,
        learning_rate=1e-05,
        is_image_frozen=True,
        paligemma2=(1e-05, 1e-06, None),
    ),
    frames=Frames(16, 9),
    antialias=False,
    exact=False,
    inexact_reason="the loaders of videos were never released, and many videos are gone from the web",
    downloads=(
        Download(
            what="sentences and splits",
            url="https://huggingface.co/datasets/friedrichor/MSR-VTT",
            licence="not stated",
        ),
        MSRVTT_VIDEOS,
    ),
    miniature="video_caption",
    notes=(
        (
            "The paper had the videos of 4,663, 316 and 2,094 of the 6,513, 497 and 2,990 of train, validate "
            "and test."
        ),
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
