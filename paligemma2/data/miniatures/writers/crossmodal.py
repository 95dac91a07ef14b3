"""COCO-35L and Crossmodal-3600: one file has the captions of all languages."""

from collections.abc import Sequence

from paligemma2.data.miniatures.content import Content
from paligemma2.data.miniatures.files import Files
from paligemma2.data.readers.crossmodal import CrossmodalCaptions, TranslatedCaptions, TranslatedPictures

_SOURCE = "en"
_COMPRESSED = ".bz2"  # as COCO-35L is released


def write_translated(
    files: Files, reader: TranslatedCaptions | TranslatedPictures, contents: Sequence[Content]
) -> None:
    """A line for each translation of each caption; the second language of a file finds all lines there."""
    rows = files.rows(reader.file + _COMPRESSED)
    for content in () if rows else contents:
        files.picture(f"images/{content.number:012d}.jpg", content.pictures[0])
        rows.extend(
            {
                "image_id": f"{content.number}_{i}",
                "src_lang": _SOURCE,
                "trg_lang": language,
                "caption_tokenized": content.captions[_SOURCE][i],
                "translation_tokenized": text,
                "backtranslation_tokenized": content.captions[_SOURCE][i],
            }
            for language, captions in content.captions.items()
            if language != _SOURCE
            for i, text in enumerate(captions)
        )


def write_crossmodal(files: Files, reader: CrossmodalCaptions, contents: Sequence[Content]) -> None:
    """A line for each picture; the second language of a file finds all lines there."""
    rows = files.rows(reader.file)
    for content in () if rows else contents:
        key = f"{content.number:016x}"
        files.picture(f"images/{key}.jpg", content.pictures[0])
        by_language = {
            language: {reader.captions: list(captions), f"{reader.captions}/tokenized": list(captions)}
            for language, captions in content.captions.items()
        }
        rows.append({"image/key": key, "image/locale": _SOURCE, **by_language})
