from paligemma2.data.readers.coco_captions import CocoCaptions, KarpathyCaptions
from tests.data.miniatures.round_trip import captions, round_trip


def test_all_splits_of_karpathy_are_in_one_file(tmp_path):
    readers = [KarpathyCaptions(split=split) for split in ("train", "restval", "val")]
    for contents, records in round_trip(tmp_path, "caption", *readers):
        assert [row.fields["captions"] for row in records] == captions(contents)
    assert [path.name for path in tmp_path.glob("*.json")] == ["dataset_coco.json"]


def test_captions_that_only_a_server_knows_are_left_out(tmp_path):
    readers = CocoCaptions(file="val.json"), CocoCaptions(file="test_image_info.json")
    known, unknown = round_trip(tmp_path, "caption", *readers)
    assert [row.fields["captions"] for row in known[1]] == captions(known[0])
    assert {row.fields["domain"] for row in known[1]} == {"in-domain", "near-domain", "out-domain"}
    assert len(unknown[1]) == len(unknown[0])
    assert not any("".join(row.fields["captions"]) for row in unknown[1])
