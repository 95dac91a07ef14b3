from paligemma2.data.readers.scicap import SciCapFigures
from tests.data.miniatures.round_trip import captions, round_trip


def test_figures_have_their_captions(tmp_path):
    readers = [SciCapFigures(split=split) for split in ("train", "test")]
    for contents, records in round_trip(tmp_path, "caption", *readers):
        assert [[row.fields["caption"]] for row in records] == captions(contents)
