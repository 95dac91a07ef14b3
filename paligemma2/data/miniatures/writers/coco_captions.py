"""Captions of pictures of COCO in Karpathy's splits, and captions in COCO's own format."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import SIDE, Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.coco_captions import CocoCaptions, KarpathyCaptions

_PICTURES = {"train": "train2014"}
_WITHOUT_CAPTIONS = "image_info"
_DOMAINS = ("in-domain", "near-domain", "out-domain")


def write_karpathy(files: Files, reader: KarpathyCaptions, contents: Sequence[Content]) -> None:
    """The pictures of one split in the file of all of them."""
    images = files.table(reader.file, images=[], dataset="coco")["images"]
    for content in contents:
        folder = _PICTURES.get(reader.split, "val2014")
        name = f"COCO_{folder}_{content.number:012d}.jpg"
        files.picture(f"{folder}/{name}", content.pictures[0])
        sentences = [
            {"raw": text, "tokens": text.split(), "imgid": content.number, "sentid": content.number * 10 + i}
            for i, text in enumerate(content.captions["en"])
        ]
        images.append(
            {
                "filepath": folder,
                "filename": name,
                "imgid": content.number,
                "cocoid": content.number,
                "split": reader.split,
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )


def write_coco(files: Files, reader: CocoCaptions, contents: Sequence[Content]) -> None:
    """Pictures and, unless the name of the file is that of pictures for a server, their captions."""
    table = files.table(reader.file, images=[])
    for place, content in enumerate(contents):
        name = f"{content.number:016x}.jpg"
        files.picture(f"images/{name}", content.pictures[0])
        image = {"id": content.number, "file_name": name, "height": SIDE, "width": SIDE}
        table["images"].append({**image, "domain": _DOMAINS[place % len(_DOMAINS)]})
        if _WITHOUT_CAPTIONS not in reader.file:
            annotations = table.setdefault("annotations", [])
            for text in content.captions["en"]:
                annotations.append({"id": len(annotations), "image_id": content.number, "caption": text})
