import bz2
import json
from pathlib import Path

import pytest

from paligemma2.data.readers.crossmodal import CrossmodalCaptions, TranslatedCaptions, TranslatedPictures
from paligemma2.errors import DataError
from tests.data.readers.small_rows import fixture, folder_of, read

DEV = "coco_mt_dev.jsonl"


def test_a_language_of_the_translations() -> None:
    first, second = read(TranslatedCaptions(file=DEV, language="de"), fixture("coco35l"))
    assert first.fields == {
        "captions": ["Ein Hund läuft über eine Wiese . 0", "Ein Hund läuft über eine Wiese . 1"],
        "language": "de",
    }
    assert (first.id, first.unit) == ("296284_de", "296284")
    assert first.pictures == ("COCO_val2014_000000296284.jpg",)
    assert second.unit != first.unit


def test_english_captions_come_once() -> None:
    first, _ = read(TranslatedCaptions(file=DEV, language="en"), fixture("coco35l"))
    assert first.fields["captions"] == [f"A dog runs over a meadow , view {n} of 296284 ." for n in range(2)]


def test_training_has_a_row_for_each_picture_with_its_languages() -> None:
    languages = ("de", "en", "zh")
    rows = read(TranslatedPictures(file="coco_mt_train.jsonl", languages=languages), fixture("coco35l"))
    assert len(rows) == 2
    assert [[fields["language"] for fields in ways] for ways in rows[0].variants] == [["de"], ["en"], ["zh"]]
    assert rows[0].fields == rows[0].variants[0][0]
    assert rows[0].variants[2][0]["captions"] == ["一只 狗 在 草地 上 奔跑 0", "一只 狗 在 草地 上 奔跑 1"]


def test_another_folder_is_another_file(tmp_path: Path) -> None:
    row = {"image_id": "7_0", "trg_lang": "de", "caption_tokenized": "a", "translation_tokenized": "b"}
    reader = TranslatedCaptions(file=DEV, language="de")
    for text in ("b", "other"):
        folder = folder_of(tmp_path / text, {DEV: json.dumps({**row, "translation_tokenized": text})})
        assert [each.fields["captions"] for each in read(reader, folder)] == [[text]]


def test_captions_are_not_tokenised() -> None:
    first, second = read(CrossmodalCaptions(language="zh"), fixture("xm3600"))
    assert first.fields == {"captions": ["草地上的一只狗。", "草地上的一只狗。 0"], "language": "zh"}
    assert (first.id, first.pictures) == ("d89a4889331ce042_zh", ("d89a4889331ce042.jpg",))
    assert second.unit == "74f94963ee1e135d"


def test_malformed_rows_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {DEV: '{"image_id": "7_0"}', "captions.jsonl": '{"image/key": "a"}'})
    with pytest.raises(DataError, match="row 1, cannot be used: no field 'trg_lang'"):
        read(TranslatedCaptions(file=DEV, language="de"), folder)
    with pytest.raises(DataError, match="no field 'de'"):
        read(CrossmodalCaptions(language="de"), folder)
    folder_of(tmp_path / "b", {f"{DEV}.bz2": bz2.compress(b'{"image_id": 3, "trg_lang": "de"}')})
    with pytest.raises(DataError, match="row 1, cannot be used"):
        read(TranslatedPictures(file=DEV, languages=("de",)), folder_of(tmp_path / "b", {}))
