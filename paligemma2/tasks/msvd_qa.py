"""MSVD-QA: questions about the videos of MSVD."""

from paligemma2.data.readers.videos import VideoRows
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Frames, Row, Task
from paligemma2.metrics.exact import EXACT_MATCH
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="MSVD-QA",
    source=(
        "Xu et al. 2017, Video Question Answering via Gradually Refined Attention over Appearance and Motion"
    ),
    splits={
        name: VideoRows(
            file=f"{split}_qa.json", video="vid{video_id}", id="{id}", names="youtube_mapping.txt"
        )
        for name, split in (("train", "train"), ("valid", "val"), ("test", "test"))
    },
    prefix="answer en {question}",
    suffix=Field("answer"),
    rows=(
        Row(
            title="MSVD-QA",
            splits=("test",),
            metric=EXACT_MATCH,
            published=(61.1, 62.5, None, None, None, None),
            num_examples=10_136,
        ),
    ),
    text_length=64,
    train="train + valid",
    num_train=29_749,
    tune=("train", "valid"),
    recipe=TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=3e-06,
        weight_decay=3e-07,
        paligemma2=(3e-06, 1e-06, None),
    ),
    frames=Frames(8, 26),
    antialias=False,
    exact=False,
    inexact_reason="the loaders of videos were never released, and many videos are gone from the web",
    downloads=(
        Download(
            what="questions, answers and names of videos",
            url="https://github.com/xudejing/video-question-answering",
            licence="not stated",
        ),
        Download(
            what="videos of MSVD, YouTubeClips.tar",
            url="https://www.cs.utexas.edu/users/ml/clamp/videoDescription/",
            licence="of each video, on YouTube",
        ),
    ),
    miniature="video_question",
    notes=(
        (
            "The paper had the videos of 10,136 of the questions of test, and of 24,670 and 5,107 of train "
            "and val."
        ),
        "big_vision's configuration has 8 frames, 26 apart; the text of PaliGemma 1 says 16 for all videos.",
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
