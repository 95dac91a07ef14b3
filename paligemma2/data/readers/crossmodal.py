"""Captions in many languages: COCO-35L and Crossmodal-3600."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from paligemma2.data.readers.coco_pictures import coco_name_of_id
from paligemma2.data.readers.data_folder import DataFolder
from paligemma2.data.readers.json_files import read_lines, row_of
from paligemma2.data.readers.records import Record

Captions: TypeAlias = dict[str, list[str]]
"""By picture."""
_SOURCE = "en"
_ONE_OF_ALL = "de"  # each English caption comes with each translation; German ones stand for all


@dataclass(frozen=True, kw_only=True)
class TranslatedCaptions:
    """COCO-35L in one language, English included: `captions` of a picture and its `language`.

    Attributes:
        file: lines of {image_id "number of the picture_number of the caption", trg_lang, caption_tokenized,
            translation_tokenized}; as it is or compressed.
        language: "de"; "en" are the captions that were translated.
    """

    file: str
    language: str

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        for picture, captions in _all(folder, self.file).get(self.language, {}).items():
            yield Record(
                id=f"{picture}_{self.language}",
                pictures=(coco_name_of_id(folder, int(picture)),),
                fields={"captions": captions, "language": self.language},
                unit=picture,
            )


@dataclass(frozen=True, kw_only=True)
class TranslatedPictures:
    """COCO-35L to train on: one row for each picture, its languages as variants.

    Attributes:
        file: as for `TranslatedCaptions`.
        languages: in which training asks in turn.
    """

    file: str
    languages: tuple[str, ...]

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        by_language = _read(folder, self.file, self.languages)
        pictures = dict.fromkeys(picture for captions in by_language.values() for picture in captions)
        for picture in pictures:
            variants = tuple(
                ({"captions": captions[picture], "language": language},)
                for language, captions in by_language.items()
                if picture in captions
            )
            yield Record(
                id=picture,
                pictures=(coco_name_of_id(folder, int(picture)),),
                fields=variants[0][0],
                unit=picture,
                variants=variants,
            )


@dataclass(frozen=True, kw_only=True)
class CrossmodalCaptions:
    """Crossmodal-3600 in one language: `captions` of a picture and its `language`.

    Attributes:
        language: "de".
        file: lines of {"image/key", language: {"caption": [...], "caption/tokenized": [...]}}.
        captions: which of these.
    """

    language: str
    file: str = "captions.jsonl"
    captions: str = "caption"

    def read(self, folder: DataFolder) -> Iterator[Record]:
        """See `Reader.read`."""
        for number, row in enumerate(read_lines(folder, self.file), start=1):
            with row_of(self.file, number):
                key: str = row["image/key"]
                captions = list(row[self.language][self.captions])
                record = Record(
                    id=f"{key}_{self.language}",
                    pictures=(f"{key}.jpg",),
                    fields={"captions": captions, "language": self.language},
                    unit=key,
                )
            yield record


@lru_cache(maxsize=1)
def _all(folder: DataFolder, file: str) -> dict[str, Captions]:
    """Captions of a file by language, read once for all of them."""
    return _read(folder, file, None)


def _read(folder: DataFolder, file: str, languages: tuple[str, ...] | None) -> dict[str, Captions]:
    """Captions by language and picture, in the order of the file; of the languages asked for, or of all."""
    found: dict[str, Captions] = {language: {} for language in languages or ()}

    def add(language: str, picture: str, caption: str) -> None:
        if languages is None or language in found:
            found.setdefault(language, {}).setdefault(picture, []).append(caption)

    for number, row in enumerate(read_lines(folder, file), start=1):
        with row_of(file, number):
            _add_row(row, add)
    return found


def _add_row(row: Mapping[str, Any], add: Any) -> None:
    picture = row["image_id"].split("_")[0]
    add(row["trg_lang"], picture, row["translation_tokenized"])
    if row["trg_lang"] == _ONE_OF_ALL:
        add(_SOURCE, picture, row["caption_tokenized"])
