"""MaRVL: is a sentence in one of five languages true of two pictures."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.exact import EXACT_MATCH

_LANGUAGES = ("id", "sw", "ta", "tr", "zh")
_FOLDER = "/{language}/images/{concept}/"

TASK = Task(
    title="MaRVL",
    source="Liu et al. 2021, arXiv:2109.13238",
    splits={
        language: JsonRecords(
            file=f"marvl-{language}.jsonl",
            layout="lines",
            image=(_FOLDER + "{left_img}", _FOLDER + "{right_img}"),
            id="id",
        )
        for language in _LANGUAGES
    },
    prefix="answer en {caption}",
    suffix=Field("label"),
    rows=(
        Row(
            title="MARVL (avg5)",
            splits=_LANGUAGES,
            metric=EXACT_MATCH,
            published=(83.5, 89.5, 90.6, 82.7, 89.1, 89.7),
            num_examples=5_670,
        ),
    ),
    transfer_from="nlvr2",
    text_length=64,
    num_pictures=2,
    antialias=False,
    downloads=(
        Download(
            what="sentences",
            url="https://github.com/marvl-challenge/marvl-code/tree/main/data",
            licence="CC BY 4.0",
        ),
        Download(
            what="pictures",
            url="https://marvl-challenge.github.io/download",
            licence="of each picture; for research that is not commercial",
        ),
    ),
    miniature="pair",
    notes=(
        "Pictures lie in `<language>/images/<concept>/`; their names alone are not unique.",
        "big_vision's reader of MaRVL is not public; `True` and `False` are NLVR2's words.",
    ),
)
