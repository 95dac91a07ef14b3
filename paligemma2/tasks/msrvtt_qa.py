"""MSRVTT-QA: questions about the videos of MSR-VTT."""

from paligemma2.data.readers.videos import VideoRows
from paligemma2.evaluation.picture_sets import MSRVTT_VIDEOS
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Frames, Row, Task
from paligemma2.metrics.exact import EXACT_MATCH
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="MSRVTT-QA",
    source=(
        "Xu et al. 2017, Video Question Answering via Gradually Refined Attention over Appearance and Motion"
    ),
    splits={
        name: VideoRows(file=f"{split}_qa.json", video="video{video_id}", id="{id}")
        for name, split in (("train", "train"), ("valid", "val"), ("test", "test"))
    },
    prefix="answer en {question}",
    suffix=Field("answer"),
    rows=(
        Row(
            title="MSRVTT-QA",
            splits=("test",),
            metric=EXACT_MATCH,
            published=(50.5, 51.9, None, None, None, None),
            num_examples=51_680,
        ),
    ),
    text_length=64,
    train="train + valid",
    num_train=121_646,
    tune=("train", "valid"),
    recipe=TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=1e-05,
        is_image_frozen=True,
        paligemma2=(6e-06, 3e-06, None),
    ),
    frames=Frames(16, 9),
    antialias=False,
    exact=False,
    inexact_reason="the loaders of videos were never released, and many videos are gone from the web",
    downloads=(
        Download(
            what="questions and answers",
            url="https://github.com/xudejing/video-question-answering",
            licence="not stated",
        ),
        MSRVTT_VIDEOS,
    ),
    miniature="video_question",
    notes=(
        (
            "The paper had the videos of 51,680 of the questions of test, and of 121,646 of train and val "
            "together."
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
