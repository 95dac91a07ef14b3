"""CountBenchQA: how many things of a kind are in a picture from the web, two to ten."""

from paligemma2.data.readers.countbench import CountBenchRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.number_match import NUMBER_MATCH

TASK = Task(
    title="CountBenchQA",
    source="Paiss et al. 2023, arXiv:2302.12066; questions: Beyer et al. 2024, arXiv:2407.07726",
    splits={"test": CountBenchRecords()},
    prefix="answer en {question}",
    suffix=Field("number"),
    rows=(
        Row(
            title="CountBenchQA",
            splits=("test",),
            metric=NUMBER_MATCH,
            published=(81.0, 84.0, 86.4, 82.0, 85.3, 87.4),
            num_examples=540,
        ),
    ),
    transfer_from="tallyqa",
    text_length=32,
    exact=False,
    inexact_reason="the card's number is of 540 pictures, of which the public file holds 491",
    downloads=(
        Download(
            what="pictures and numbers (train-00000-of-00001-….parquet)",
            url="https://huggingface.co/datasets/nielsr/countbench",
            licence="no licence file",
        ),
        Download(
            what="questions (countbench_paired_questions.json)",
            url="https://github.com/google-research/big_vision/tree/main/big_vision/datasets/countbenchqa/data",
            licence="Apache-2.0",
        ),
    ),
    miniature="count",
    notes=(
        "big_vision leaves out one more picture, which is not in colour; here it is read as any other.",
        "The paper's model is the one that was trained for TallyQA.",
    ),
)
