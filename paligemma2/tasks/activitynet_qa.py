"""ActivityNet-QA: questions about long videos."""

from paligemma2.data.readers.videos import VideoRows
from paligemma2.evaluation.picture_sets import ACTIVITYNET_VIDEOS
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Frames, Row, Task
from paligemma2.metrics.activitynet_qa import ACTIVITYNET_QA_ACCURACY
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="ActivityNet-QA",
    source="Yu et al. 2019, arXiv:1906.02467",
    splits={
        name: VideoRows(
            file=f"{split}_q.json", answers=f"{split}_a.json", video="v_{video_name}", id="{question_id}"
        )
        for name, split in (("train", "train"), ("valid", "val"), ("test", "test"))
    },
    prefix="answer en {question}",
    suffix=Field("answer"),
    meta=("type",),
    rows=(
        Row(
            title="ActivityNet-QA",
            splits=("test",),
            metric=ACTIVITYNET_QA_ACCURACY,
            published=(51.3, 53.2, None, None, None, None),
            num_examples=6_900,
        ),
    ),
    text_length=64,
    train="train + valid",
    num_train=43_130,
    tune=("train", "valid"),
    recipe=TransferRecipe(
        text_length=64,
        epochs=1,
        batch_size=128,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(6e-06, 6e-06, None),
    ),
    frames=Frames(16, 70),
    antialias=False,
    exact=False,
    inexact_reason="the loaders of videos were never released, and many videos are gone from the web",
    downloads=(
        Download(
            what="questions and answers", url="https://github.com/MILVLG/activitynet-qa", licence="Apache-2.0"
        ),
        ACTIVITYNET_VIDEOS,
    ),
    miniature="video_question",
    notes=(
        (
            "The paper had the videos of 6,900 of the 8,000 questions of test, and of 27,610 and 15,760 of "
            "train and val."
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
