from paligemma2.data.miniatures.words import NAMES
from paligemma2.data.readers.crossmodal import CrossmodalCaptions, TranslatedCaptions, TranslatedPictures
from tests.data.miniatures.round_trip import captions, round_trip

LANGUAGES = ("en", "de", "sw")


def test_each_language_has_its_captions_of_the_same_pictures(tmp_path):
    for number, reader in enumerate((CrossmodalCaptions, TranslatedCaptions)):
        folder = tmp_path / str(number)
        folder.mkdir()
        readers = [reader(file="dev.jsonl", language=language) for language in LANGUAGES]
        read = round_trip(folder, "caption_languages", *readers)
        for language, (contents, records) in zip(LANGUAGES, read, strict=True):
            assert [row.fields["captions"] for row in records] == captions(contents, language)
        assert len({tuple(record.unit for record in records) for _, records in read}) == 1


def test_training_asks_for_all_languages_of_a_picture(tmp_path):
    languages = tuple(language for language in NAMES if language != "quz")
    reader = TranslatedPictures(file="train.jsonl", languages=languages)
    ((contents, records),) = round_trip(tmp_path, "caption_languages", reader)
    assert len(records) == len(contents)
    for content, record in zip(contents, records, strict=True):
        found = {ways[0]["language"]: tuple(ways[0]["captions"]) for ways in record.variants}
        assert found == {language: content.captions[language] for language in languages}
