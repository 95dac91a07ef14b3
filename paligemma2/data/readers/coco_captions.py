"""Captions of pictures of COCO, and of other data sets in COCO's format."""

from collections.abc import Iterator
from dataclasses import dataclass

from paligemma2.data.readers.coco_pictures import coco_name
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_list, read_mapping, row_of
from paligemma2.data.readers.records import Record


@dataclass(frozen=True, kw_only=True)
class KarpathyCaptions:
    """COCO in the splits of Karpathy: `captions`, about five of each picture.

    Attributes:
        split: "train", "restval", "val" or "test".
        file: {images: [{cocoid, filename, split, sentences: [{raw}]}]}.
    """

    split: str
    file: str = "dataset_coco.json"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        for number, row in enumerate(read_list(folder, self.file, "images")):
            with row_of(self.file, number):
                if row["split"] != self.split:
                    continue
                captions = [sentence["raw"] for sentence in row["sentences"]]
                record = Record(
                    id=str(row["cocoid"]),
                    pictures=(coco_name(folder, row["filename"]),),
                    fields={"captions": captions},
                )
            yield record


@dataclass(frozen=True, kw_only=True)
class CocoCaptions:
    """Captions in COCO's format, and the `domain` of each picture where it has one.

    Attributes:
        file: {images: [{id, file_name}], annotations: [{image_id, caption}]}. Without annotations, as where
            only a server knows the captions, each picture has one that is empty.
        captions: what the list of them is called in a row.
    """

    file: str
    captions: str = "captions"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        content = read_mapping(folder, self.file)
        captions: dict[int, list[str]] = {}
        with row_of(self.file, "of annotations"):
            for each in content.get("annotations", ()):
                captions.setdefault(each["image_id"], []).append(each["caption"])
        with row_of(self.file, "of images"):
            rows = list(content["images"])
        for number, row in enumerate(rows):
            with row_of(self.file, number):
                record = Record(
                    id=str(row["id"]),
                    pictures=(coco_name(folder, row["file_name"]),),
                    fields={
                        self.captions: captions.get(row["id"], [""]),
                        "domain": row.get("domain", ""),
                    },
                )
            yield record
