"""COCO-35L: captions of COCO translated to 34 languages; the model of XM3600 too."""

from paligemma2.data.readers.crossmodal import TranslatedCaptions, TranslatedPictures
from paligemma2.evaluation.picture_sets import COCO_TRAIN2014, COCO_VAL2014
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, Row, Task
from paligemma2.metrics.caption import CIDER
from paligemma2.training.recipes import TransferRecipe

_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi "
    "nl no pl pt ro ru sv sw te th tr uk vi zh"
)
LANGUAGES = tuple(_CODES.split())
OTHERS = tuple(language for language in LANGUAGES if language != "en")

TASK = Task(
    title="COCO-35L",
    source="Thapliyal et al. 2022, arXiv:2205.12522",
    splits={
        "train": TranslatedPictures(file="coco_mt_train.jsonl", languages=LANGUAGES),
        **{
            f"dev_{language}": TranslatedCaptions(file="coco_mt_dev.jsonl", language=language)
            for language in LANGUAGES
        },
    },
    prefix="caption {language}",
    suffix=Field("captions"),
    rows=(
        Row(
            title="COCO-35L (avg34)",
            splits=tuple(f"dev_{language}" for language in OTHERS),
            metric=CIDER,
            published=(113.9, 115.8, 116.5, 115.8, 117.2, 117.2),
            num_examples=170_000,
        ),
        Row(
            title="COCO-35L (en)",
            splits=("dev_en",),
            metric=CIDER,
            published=(138.4, 140.8, 142.4, 140.4, 142.4, 142.3),
            num_examples=5_000,
        ),
    ),
    text_length=32,
    train="train",
    num_train=113_287,
    tune=("train", " + ".join(f"dev_{language}" for language in LANGUAGES)),
    recipe=TransferRecipe(
        text_length=32,
        epochs=25,  # over the pictures, each in one of its languages
        batch_size=256,
        learning_rate=1e-05,
        weight_decay=1e-06,
        paligemma2=(1e-06, 6e-07, 3e-07),
        alternatives=((3e-06,), (3e-07,), ()),
    ),
    antialias=False,
    downloads=(
        Download(
            what="captions and translations, coco_mt_train and coco_mt_dev",
            url="https://storage.googleapis.com/crossmodal-3600/coco_mt_train.jsonl.bz2",
            licence="CC BY 4.0",
        ),
        COCO_TRAIN2014,
        COCO_VAL2014,
    ),
    miniature="caption_languages",
    notes=(
        (
            "References are the field translation_tokenized, and caption_tokenized in English, as big_vision "
            "takes them; scores of languages without spaces depend on that."
        ),
        "English captions are those of the rows translated to German, so that each comes once.",
        "The paper draws the language of each example at random; here the languages of a picture take turns.",
        "Learning rates were chosen on the dev splits, which are reported too.",
    ),
)
