"""Crossmodal-3600: captions in 36 languages, of pictures from where they are spoken; zero-shot."""

from paligemma2.data.readers.crossmodal import CrossmodalCaptions
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.tasks import coco35l

LANGUAGES = tuple(sorted((*coco35l.LANGUAGES, "quz")))
OTHERS = tuple(language for language in LANGUAGES if language != "en")

TASK = Task(
    title="Crossmodal-3600",
    source="Thapliyal et al. 2022, arXiv:2205.12522",
    splits={language: CrossmodalCaptions(language=language) for language in LANGUAGES},
    prefix="caption {language}",
    suffix=Field("captions"),
    rows=(
        Row(
            title="XM3600 (avg35)",
            splits=OTHERS,
            metric=CIDER,
            published=(42.8, 44.5, 45.2, 43.2, 44.6, 45.2),
            num_examples=126_000,
        ),
        Row(
            title="XM3600 (en)",
            splits=("en",),
            metric=CIDER,
            published=(79.8, 80.7, 81.0, 80.3, 81.5, 81.0),
            num_examples=3_600,
        ),
    ),
    text_length=32,
    transfer_from="coco35l",
    antialias=False,
    downloads=(
        Download(
            what="captions",
            url="https://google.github.io/crossmodal-3600/web-data/captions.zip",
            licence="CC BY 4.0",
        ),
        Download(
            what="pictures",
            url="https://open-images-dataset.s3.amazonaws.com/crossmodal-3600/images.tgz",
            licence="CC BY 4.0",
        ),
    ),
    miniature="caption_languages",
    notes=(
        (
            "References are the field caption, which is not tokenised: a sentence of Chinese, Japanese or "
            "Thai counts as one word, as in the published numbers."
        ),
        "The mean of 35 includes Cusco Quechua (quz), which the model is not trained on.",
    ),
)
