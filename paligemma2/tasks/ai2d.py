"""AI2D: questions about diagrams of school books, with four answers to choose from."""

from paligemma2.data.readers.ai2d import Ai2dRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.exact import EXACT_MATCH
from paligemma2.training.recipes import TransferRecipe

TASK = Task(
    title="AI2D",
    source="Kembhavi et al. 2016, arXiv:1603.07396",
    splits={"train": Ai2dRecords(is_test=False), "test": Ai2dRecords(is_test=True)},
    prefix="answer en  {question} choose from: {options}",
    suffix=Field("answer"),
    rows=(
        Row(
            title="AI2D",
            splits=("test",),
            metric=EXACT_MATCH,
            published=(74.7, 83.1, 83.2, 76.0, 84.4, 84.6),
            num_examples=3_088,
        ),
    ),
    train="train",
    num_train=12_413,
    tune=("train[:-1024]", "train[-1024:]"),
    text_length=128,
    antialias=False,
    train_antialias=True,
    recipe=TransferRecipe(
        text_length=128,
        epochs=10,
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(6e-06, 1e-06, 3e-06),
    ),
    exact=False,
    inexact_reason="letters are painted in another typeface than DM Sans, which the paper's diagrams have",
    downloads=(
        Download(
            what="questions, annotations and diagrams (ai2d-all.zip)",
            url="https://allenai.org/data/diagrams",
            licence="not stated",
        ),
        Download(
            what="numbers of the test diagrams (ai2d_test_ids.csv)",
            url="https://allenai.org/data/diagrams",
            licence="not stated",
        ),
    ),
    miniature="choice",
    notes=(
        "The prompt has two spaces after `en`, as big_vision's code makes it; the paper prints one.",
        "Options stand between space, tab and space.",
        "big_vision's last 1024 training questions are so by an order of TFDS; ours is that of file names.",
    ),
)
