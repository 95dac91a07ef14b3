"""Pictures and videos that several benchmarks are about, so that each is fetched and counted once."""

from paligemma2.evaluation.task import Download

_COCO = "http://images.cocodataset.org/zips"
_FLICKR = "of each picture, on Flickr"

COCO_TRAIN2014 = Download(
    what="pictures of COCO train2014", url=f"{_COCO}/train2014.zip", licence=_FLICKR, gigabytes=13
)
COCO_VAL2014 = Download(
    what="pictures of COCO val2014", url=f"{_COCO}/val2014.zip", licence=_FLICKR, gigabytes=6
)
COCO_TEST2015 = Download(
    what="pictures of COCO test2015", url=f"{_COCO}/test2015.zip", licence=_FLICKR, gigabytes=12
)
COCO_TRAIN2017 = Download(
    what="pictures of COCO train2017", url=f"{_COCO}/train2017.zip", licence=_FLICKR, gigabytes=18
)
COCO_VAL2017 = Download(
    what="pictures of COCO val2017", url=f"{_COCO}/val2017.zip", licence=_FLICKR, gigabytes=1
)
COCO_TEST2017 = Download(
    what="pictures of COCO test2017", url=f"{_COCO}/test2017.zip", licence=_FLICKR, gigabytes=6
)
GQA_PICTURES = Download(
    what="pictures of GQA (images.zip)",
    url="https://cs.stanford.edu/people/dorarad/gqa/download.html",
    licence=_FLICKR,
    gigabytes=20.3,
)
RICO = Download(
    what="screenshots and view hierarchies of RICO",
    url="https://storage.googleapis.com/crowdstf-rico-uiuc-4540/rico_dataset_v0.1/unique_uis.tar.gz",
    licence="not stated",
    gigabytes=6,
)
ACTIVITYNET_VIDEOS = Download(
    what="videos of ActivityNet, from YouTube or by request",
    url="http://activity-net.org/download.html",
    licence="of each video, on YouTube",
)
MSRVTT_VIDEOS = Download(
    what="videos of MSR-VTT",
    url="https://huggingface.co/datasets/friedrichor/MSR-VTT",
    licence="of each video, on YouTube",
)
