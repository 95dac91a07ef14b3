import pytest

from paligemma2.data.readers.videos import VideoRows, VideoSegments, VideoSentences
from tests.data.miniatures.round_trip import captions, questions, round_trip

ROWS = {
    "activitynet": {"answers": "{split}_a.json", "video": "v_{video_name}", "id": "{question_id}"},
    "msrvtt": {"video": "video{video_id}", "id": "{id}"},
    "msvd": {"video": "vid{video_id}", "id": "{id}", "names": "youtube_mapping.txt"},
}


@pytest.mark.parametrize("name", ROWS)
def test_questions_about_videos_have_answers(name, tmp_path):
    readers = [
        VideoRows(
            file=f"{split}_q.json",
            **{key: value.replace("{split}", split) for key, value in ROWS[name].items()},
        )
        for split in ("train", "test")
    ]
    for contents, records in round_trip(tmp_path, "video_question", *readers, count=2):
        assert [(row.fields["question"], row.fields["answer"]) for row in records] == questions(contents)
        assert len({record.id for record in records}) == len(records)


def test_captions_of_videos_are_found(tmp_path):
    readers = (
        VideoRows(file="a.json", video="{videoID}", id="{videoID}"),
        VideoSentences(file="b.json", split="train"),
        VideoSentences(file="b.json", split="validate"),
    )
    read = round_trip(tmp_path, "video_caption", *readers, count=2)
    for field, (contents, records) in zip(("enCap", "captions", "captions"), read, strict=True):
        assert [row.fields[field] for row in records] == captions(contents)


def test_a_video_has_two_parts(tmp_path):
    ((contents, records),) = round_trip(tmp_path, "video_caption", VideoSegments(file="c.json"), count=2)
    assert [row.fields["caption"] for row in records] == [
        text for (text,) in captions(contents) for _ in range(2)
    ]
    spans = [(row.pictures[0].start, row.pictures[0].end) for row in records[:2]]
    assert spans == [(0.0, 1.2), (0.8, 2.0)]
