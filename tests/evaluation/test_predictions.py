import json
from dataclasses import replace

import pytest

from paligemma2.errors import DataError
from paligemma2.evaluation.predictions import (
    Header,
    Prediction,
    PredictionsFile,
    read_predictions,
    slug,
    write_predictions,
)
from paligemma2.evaluation.protocol import ProtocolSettings, split_protocol
from tests.small_task import small_task


def header(fingerprint="f", task=None, **settings):
    protocol = split_protocol("colours", task or small_task(), ProtocolSettings(**settings), "val")
    return Header(protocol=protocol, model="tiny", fingerprint=fingerprint)


def line(number, text="red"):
    return Prediction(
        id=str(number),
        index=number,
        prompt="what?",
        prediction=text,
        answers=("red", "Rot ü"),
        meta={"kind": [1, None]},
        unit="a.png",
        images=("a.png",),
        log_prob=-0.5,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "val.jsonl"


def test_what_is_written_is_read_again(path):
    lines = (line(0), replace(line(1, "\ud800 lone"), score=0.25))
    write_predictions(path, header(), lines)
    found = read_predictions(path)
    assert found.lines == lines
    assert found.header == header()
    assert json.loads(path.read_text("utf-8", "surrogatepass").splitlines()[0])["protocol"]["hash"]


def test_batches_are_added_and_found_by_a_later_start(path):
    file = PredictionsFile(path, header())
    assert file.merge() == {}
    file.append([line(0), line(1)])
    file.append([line(2)])
    before = path.read_bytes()
    assert list(PredictionsFile(path, header()).merge()) == ["0", "1", "2"]
    assert path.read_bytes() == before  # nothing to do, nothing is written


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_line_that_a_kill_has_cut_is_forgotten(path, cut):
    file = PredictionsFile(path, header())
    file.merge()
    file.append([line(0), line(1)])
    path.write_bytes(path.read_bytes()[:-cut])
    again = PredictionsFile(path, header())
    assert list(again.merge()) == ["0"]
    again.append([line(1)])
    assert [each.id for each in read_predictions(path).lines] == ["0", "1"]


def test_a_header_that_a_kill_has_cut_counts_as_no_file(path):
    file = PredictionsFile(path, header())
    file.merge()
    path.write_bytes(path.read_bytes()[:30])
    assert PredictionsFile(path, header()).merge() == {}
    assert read_predictions(path).lines == ()


def test_parts_of_several_processes_become_one_file_and_what_is_twice_counts_once(path):
    PredictionsFile(path, header()).merge()
    for rank in range(3):
        PredictionsFile(path, header()).append([line(rank)], rank=rank, processes=3)
    PredictionsFile(path, header()).append([line(0, "other")], rank=3, processes=4)
    assert len(list(path.parent.iterdir())) == 5
    assert set(PredictionsFile(path, header()).merge()) == {"0", "1", "2"}
    assert [each.name for each in path.parent.iterdir()] == ["val.jsonl"]
    assert [each.prediction for each in read_predictions(path).lines] == ["red"] * 3


def test_another_protocol_and_another_model_are_refused_and_said(path):
    PredictionsFile(path, header()).merge()
    other = header(task=small_task(prefix="{question}"))
    with pytest.raises(DataError, match=r"another protocol .* prefix was 'answer en \{question\}'"):
        PredictionsFile(path, other).merge()
    with pytest.raises(DataError, match=r"another model: tiny \(f\), not tiny \(g\)"):
        PredictionsFile(path, header("g")).merge()


def test_the_parts_are_checked_too(path):
    PredictionsFile(path, header("g")).append([line(0)], rank=1, processes=2)
    with pytest.raises(DataError, match="another model"):
        PredictionsFile(path, header()).merge()


def test_another_rule_of_scoring_keeps_the_predictions(path):
    file = PredictionsFile(path, header())
    file.merge()
    file.append([line(0)])
    other = header(mode="official")
    assert list(PredictionsFile(path, other).merge()) == ["0"]
    assert read_predictions(path).header == other


def test_damage_in_the_middle_is_said(path):
    file = PredictionsFile(path, header())
    file.merge()
    file.append([line(0), line(1)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{nonsense\n" + lines[2])
    with pytest.raises(DataError, match="line 2 is damaged"):
        file.merge()
    path.write_bytes(b'{"image": 1}\n')
    with pytest.raises(DataError, match="is not a file of predictions"):
        file.merge()
    with pytest.raises(DataError, match="is not there, or empty"):
        read_predictions(path.with_name("none.jsonl"))


def test_splits_have_names_of_their_own():
    splits = ["val", "val[-10240:]", "val[:10240]", "val[10240:]", "train + val[:-5%]", "train+val[:-5]"]
    assert slug("val[-10240:]") == "val_-10240to"
    assert len({slug(split) for split in splits}) == len(splits)
