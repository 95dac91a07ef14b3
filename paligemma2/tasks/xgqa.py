"""xGQA: GQA's questions in seven more languages, with English answers."""

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.evaluation.picture_sets import GQA_PICTURES
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.gqa import GQA_ACCURACY

_LANGUAGES = ("bn", "de", "id", "ko", "pt", "ru", "zh")

TASK = Task(
    title="xGQA",
    source="Pfeiffer et al. 2022, arXiv:2109.06082",
    splits={
        language: JsonRecords(
            file=f"testdev_balanced_questions_{language}.json", layout="mapping", image="{imageId}.jpg"
        )
        for language in ("en", *_LANGUAGES)
    },
    prefix="answer en {question}",
    suffix=Field("answer"),
    meta=("question", "isBalanced", "types", "semantic", "groups"),
    rows=(
        Row(
            title="xGQA (avg7)",
            splits=_LANGUAGES,
            metric=GQA_ACCURACY,
            published=(58.6, 61.4, 61.1, 60.4, 62.6, 62.1),
            num_examples=88_046,
        ),
    ),
    transfer_from="gqa",
    text_length=32,
    antialias=False,
    downloads=(
        Download(
            what="questions and answers (zero_shot)",
            url="https://github.com/e-bug/iglue/tree/main/datasets/xGQA/annotations",
            licence="CC BY 4.0",
        ),
        GQA_PICTURES,
    ),
    miniature="question_languages",
    notes=("The prompt says `en` in every language, for answers are English; the mean is without English.",),
)
