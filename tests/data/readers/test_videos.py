from pathlib import Path

import pytest

from paligemma2.data.readers.records import VideoPart
from paligemma2.data.readers.videos import VideoRows, VideoSegments, VideoSentences
from paligemma2.errors import DataError
from tests.data.readers.small_rows import fixture, folder_of, read


def test_questions_and_answers_of_two_files() -> None:
    reader = VideoRows(file="test_q.json", answers="test_a.json", video="v_{video_name}", id="{question_id}")
    first = read(reader, fixture("activitynet_qa"))[0]
    assert first.fields["question"] == "is the athletes wearing short sleeve"
    assert (first.fields["answer"], first.fields["type"]) == ("yes", 3)
    assert first.pictures == (VideoPart("v_JTQsElq5UN4"),)
    assert (first.id, first.unit) == ("v_JTQsElq5UN4_2", "v_JTQsElq5UN4")


def test_videos_are_found_with_and_without_their_first_letter(tmp_path: Path) -> None:
    rows = [{"video_name": name, "id": name} for name in ("a", "v_b", "c")]
    folder = folder_of(tmp_path, {"q.json": rows, "v_a.mp4": "", "b.mkv": ""})
    found = read(VideoRows(file="q.json", video="{video_name}", id="{id}"), folder)
    assert [row.pictures[0].name for row in found] == ["v_a", "b", "c"]  # type: ignore[union-attr]


def test_videos_under_names_of_their_own() -> None:
    reader = VideoRows(file="test_qa.json", video="vid{video_id}", id="{id}", names="youtube_mapping.txt")
    first = read(reader, fixture("msvd_qa"))[0]
    assert first.pictures == (VideoPart("-abc_DEF2x_5_15"),)
    assert (first.id, first.unit) == ("20", "vid2")


def test_sentences_about_the_videos_of_a_split() -> None:
    reader = VideoSentences(file="train_val_videodatainfo.json", split="validate")
    (row,) = read(reader, fixture("msrvtt_cap"))
    assert row.fields["captions"] == ["a cook cuts onions", "someone is preparing food in a kitchen"]
    assert row.pictures == (VideoPart("video1"),)


def test_parts_of_videos() -> None:
    first, second = read(VideoSegments(file="val_2.json"), fixture("activitynet_cap"))
    assert first.pictures == (VideoPart("v_cccccccccc2", start=0.0, end=0.3),)
    assert (first.id, first.unit) == ("v_cccccccccc2[0-0.3]", "v_cccccccccc2")
    assert second.fields == {"caption": "He throws a ball."}
    assert second.pictures == (VideoPart("v_cccccccccc2", start=0.2, end=0.6),)


def test_malformed_rows_are_told(tmp_path: Path) -> None:
    files = {
        "q.json": [{"id": 1, "question_id": "a"}],
        "a.json": [{"question_id": "b"}],
        "names.txt": "one\n",
        "info.json": {"videos": [{"video_id": "video0", "split": "test"}], "sentences": []},
        "parts.json": {"v": {"timestamps": [[0, 1]], "sentences": []}},
    }
    folder = folder_of(tmp_path, files)
    for reader, told in (
        (VideoRows(file="q.json", video="v{video_id}", id="{id}"), "no field 'video_id'"),
        (VideoRows(file="q.json", video="v", id="{id}", answers="a.json"), "no field 'a'"),
        (VideoRows(file="q.json", video="v", id="{id}", names="names.txt"), "names.txt, row 1"),
        (VideoSentences(file="info.json", split="test"), "no field 'video0'"),
        (VideoSegments(file="parts.json"), "row v, cannot be used"),
    ):
        with pytest.raises(DataError, match=told):
            read(reader, folder)
