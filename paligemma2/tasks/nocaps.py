"""NoCaps: captions of pictures with things that COCO has no captions of; zero-shot."""

from paligemma2.data.readers.coco_captions import CocoCaptions
from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Download, HubTable, Row, Task
from paligemma2.metrics.caption import CIDER

TASK = Task(
    title="NoCaps",
    source="Agrawal et al. 2019, arXiv:1812.08658",
    splits={
        "val": CocoCaptions(file="nocaps_val_4500_captions.json", captions="annotations_captions"),
        "test": CocoCaptions(file="nocaps_test_image_info.json", captions="annotations_captions"),
    },
    prefix="caption en",
    suffix=Field("annotations_captions"),
    rows=(
        Row(
            title="NoCaps",
            splits=("val",),
            metric=CIDER,
            published=(123.1, 126.3, 127.1, 123.5, 126.9, 127.0),
            num_examples=4_500,
        ),
    ),
    text_length=32,
    transfer_from="cococap",
    beams=2,
    antialias=False,
    hub=HubTable(
        id="lmms-lab/NoCaps",
        splits={
            "val": ParquetRecords(files="data/validation-*.parquet", id="image_id"),
            "test": ParquetRecords(files="data/test-*.parquet", id="image_id"),
        },
    ),
    downloads=(
        Download(
            what="captions of val",
            url="https://nocaps.s3.amazonaws.com/nocaps_val_4500_captions.json",
            licence="not stated",
        ),
        Download(
            what="pictures of Open Images, validation",
            url="https://s3.amazonaws.com/open-images-dataset/tar/validation.tar.gz",
            licence="of each picture, listed as CC BY 2.0",
            gigabytes=12,
        ),
    ),
    test_split="test",
    submission="caption",
    miniature="caption",
    notes=("The number is that of all 4,500 pictures together, whatever their domain.",),
)
