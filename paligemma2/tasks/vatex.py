"""VATEX: captions of clips of ten seconds; the English ones."""

from paligemma2.data.readers.videos import VideoRows
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Frames, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="VATEX",
    source="Wang et al. 2019, arXiv:1904.03493",
    splits={
        name: VideoRows(file=file, video="{videoID}", id="{videoID}")
        for name, file in (
            ("train", "vatex_training_v1.0.json"),
            ("valid", "vatex_validation_v1.0.json"),
            ("test", "vatex_public_test_english_v1.1.json"),
        )
    },
    prefix="caption en",
    suffix=Field("enCap"),
    rows=(
        Row(
            title="VATEX",
            splits=("test",),
            metric=CIDER,
            published=(80.8, 82.7, None, None, None, None),
            num_examples=5_135,
        ),
    ),
    text_length=64,
    train="train + valid",
    num_train=24_850,
    tune=("train", "valid"),
    answer_rule="choice",
    recipe=TransferRecipe(
        text_length=64,
        epochs=10,
        batch_size=128,
        learning_rate=3e-06,
        weight_decay=3e-07,
        paligemma2=(3e-06, 3e-06, None),
    ),
    frames=Frames(16, 7),
    antialias=False,
    exact=False,
    inexact_reason="the loaders of videos were never released, and many videos are gone from the web",
    downloads=(
        Download(
            what="captions", url="https://eric-xw.github.io/vatex-website/download.html", licence="CC BY 4.0"
        ),
        Download(
            what="videos, from YouTube",
            url="https://eric-xw.github.io/vatex-website/download.html",
            licence="of each video, on YouTube",
        ),
    ),
    miniature="video_caption",
    notes=(
        (
            "Test is the public test split in English; the paper had 5,135 of its 6,000 clips, and 22,315 "
            "and 2,584 of train and validation."
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
