"""POPE: is an object in the picture, where random, frequent or likely objects are asked for."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.picture_sets import COCO_VAL2014
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.pope import POPE_ACCURACY

_KINDS = ("random", "popular", "adversarial")

TASK = Task(
    title="POPE",
    source="Li et al. 2023, arXiv:2305.10355",
    splits={
        kind: JsonRecords(file=f"coco_pope_{kind}.json", layout="lines", id="question_id") for kind in _KINDS
    },
    prefix="answer en {text}",
    suffix=Field("label"),
    rows=tuple(Row(title=f"POPE ({kind})", splits=(kind,), metric=POPE_ACCURACY) for kind in _KINDS),
    transfer_from="vqav2",
    text_length=48,
    antialias=False,
    exact=False,
    inexact_reason="the paper of PaliGemma 2 has no number; that of PaliGemma does not say of which model",
    downloads=(
        Download(
            what="questions and answers",
            url="https://github.com/RUCAIBox/POPE/tree/main/output/coco",
            licence="MIT",
        ),
        COCO_VAL2014,
    ),
    miniature="yes_no",
    notes=(
        "Appendix B of PaliGemma's paper asks `answer en` and the question; big_vision's configuration asks "
        "the question alone unless it is told otherwise.",
    ),
)
