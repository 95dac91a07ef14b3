"""RefCOCO, RefCOCO+ and RefCOCOg: sentences that each mean one object of a picture of COCO."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from paligemma2.data.readers.coco_pictures import coco_name
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_mapping, row_of
from paligemma2.data.readers.plain_pickle import read_plain_pickle
from paligemma2.data.readers.records import Record
from paligemma2.errors import DataError, InputError
from paligemma2.processing.coco_masks import coco_mask
from paligemma2.processing.masks import mask_to_rle, rle_to_mask

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class ReferringFiles:
    """The files of one of the data sets, as its zip unpacks.

    Attributes:
        folder: "refcoco", "refcoco+" or "refcocog".
        partition: who split it, "unc" or "umd": `refs(unc).p` has the sentences, and `instances.json` the
            objects.
    """

    folder: str
    partition: str

    def sentences(self, folder: DataFolder) -> list[Row]:
        """The rows of the pickle: {ref_id, ann_id, image_id, split, sentences: [{sent_id, sent}]}."""
        rows = read_plain_pickle(folder, self.pickle)
        if not isinstance(rows, list):
            raise DataError(f"{self.pickle} holds no list", hint="is this the data set's own file?")
        return rows

    @property
    def pickle(self) -> str:
        """The name of the file with the sentences."""
        return f"{self.folder}/refs({self.partition}).p"

    def objects(self, folder: DataFolder) -> "_Objects":
        """The annotations of COCO."""
        name = f"{self.folder}/instances.json"
        content = read_mapping(folder, name)
        with row_of(name, "of images or annotations"):
            images = {each["id"]: each for each in content["images"]}
            return _Objects(images, {each["id"]: each for each in content["annotations"]})


@dataclass(frozen=True, kw_only=True)
class ReferringSentences:
    """One row for each sentence: `sentence`, and `box` and `mask` of its object.

    Attributes:
        files: of the data set.
        split: "val", "test", "testA", "testB" or "train".
    """

    files: ReferringFiles
    split: str

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        objects = self.files.objects(folder)
        for number, row in enumerate(self.files.sentences(folder)):
            with row_of(self.files.pickle, number):
                if row["split"] != self.split:
                    continue
                thing, name = objects.fields(row["ann_id"]), objects.picture(folder, row["image_id"])
                records = [
                    Record(
                        id=str(each["sent_id"]),
                        pictures=(name,),
                        fields={"sentence": each["sent"], **thing},
                        unit=str(row["image_id"]),
                    )
                    for each in row["sentences"]
                ]
            yield from records


@dataclass(frozen=True, kw_only=True)
class ReferringPictures:
    """One row for each picture of the training splits, with all its objects as variants.

    Pictures that any other split has are left out, as in big_vision's `refcocox_combined`.

    Attributes:
        files: of the data sets that are put together.
        split: that is trained on.
    """

    files: tuple[ReferringFiles, ...]
    split: str = "train"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        sentences = [files.sentences(folder) for files in self.files]
        held_out = set[int]()
        for files, rows in zip(self.files, sentences, strict=True):
            for number, row in enumerate(rows):
                with row_of(files.pickle, number):
                    if row["split"] != self.split:
                        held_out.add(row["image_id"])
        pictures: dict[int, _Picture] = {}
        for files, rows in zip(self.files, sentences, strict=True):
            objects = files.objects(folder)
            for number, row in enumerate(rows):
                with row_of(files.pickle, number):
                    if row["image_id"] not in held_out:
                        picture = pictures.setdefault(row["image_id"], _Picture({}, {}, []))
                        picture.add(row, objects, folder)
        for image_id, picture in pictures.items():
            yield picture.record(str(image_id))


@dataclass(frozen=True)
class _Picture:
    """What the data sets say about a picture: fields and sentences of its objects, and its name."""

    fields: dict[int, Row]
    sentences: dict[int, list[str]]
    names: list[str]

    def add(self, row: Row, objects: "_Objects", folder: DataFolder) -> None:
        if row["ann_id"] not in self.fields:
            self.fields[row["ann_id"]] = objects.fields(row["ann_id"])
        if not self.names:
            self.names.append(objects.picture(folder, row["image_id"]))
        self.sentences.setdefault(row["ann_id"], []).extend(each["sent"] for each in row["sentences"])

    def record(self, name: str) -> Record:
        variants = tuple(
            tuple({"sentence": sentence, **thing} for sentence in self.sentences[number])
            for number, thing in self.fields.items()
        )
        return Record(
            id=name, pictures=tuple(self.names), fields=variants[0][0], unit=name, variants=variants
        )


@dataclass(frozen=True)
class _Objects:
    images: Mapping[int, Row]
    annotations: Mapping[int, Row]

    def picture(self, folder: DataFolder, number: int) -> str:
        return coco_name(folder, self.images[number]["file_name"])

    def fields(self, number: int) -> Row:
        """`box` as fractions (y_min, x_min, y_max, x_max), and `mask` as run lengths."""
        thing = self.annotations[number]
        image = self.images[thing["image_id"]]
        height, width = image["height"], image["width"]
        outline = thing["segmentation"]
        try:
            mask = coco_mask(outline, height, width) if isinstance(outline, list) else rle_to_mask(outline)
        except InputError as error:
            raise ValueError(error.message) from error
        x, y, box_width, box_height = thing["bbox"]
        box = [y / height, x / width, (y + box_height) / height, (x + box_width) / width]
        return {"box": box, "mask": dict(mask_to_rle(mask))}
