from pathlib import Path

import pytest

from paligemma2.jobs import pretrain, pretrain_mask_codec
from paligemma2.jobs.pretrain import PretrainReport
from paligemma2.jobs.pretrain_mask_codec import MaskCodecPretrainReport, MaskCodecScores
from paligemma2.jobs.world_scores import WorldScores
from paligemma2.training.trainer import Progress

SCORES = WorldScores(
    caption=0.91,
    vqa=0.92,
    detection=0.8,
    segmentation=0.75,
    words=0.7,
    letters=0.9,
    pairs=0.95,
    by_kind={"colour": 1.0},
    examples=9,
)

CODEC_SCORES = MaskCodecScores(
    iou=0.957,
    iou_tenth_swapped=0.95,
    iou_fifth_swapped=0.94,
    equal_codes_turned=0.61,
    near_codes_turned=0.87,
    examples=9,
)


@pytest.fixture
def asked(monkeypatch):
    """What the job is asked for; the work itself takes an hour and is tested beside it."""
    configs = []

    def run(config, on_progress, on_event):
        configs.append(config)
        numbers = {"learning_rate": 0.1, "grad_norm": 1.0, "examples_per_second": 7.0, "seconds": 2.0}
        counters = ("not_finite", "spikes", "skipped", "skipped_examples", "cut_suffixes")
        numbers |= dict.fromkeys(counters, 0)
        on_progress("stage1", Progress(step=5, steps=10, loss=1.25, **numbers))
        on_event("saved")
        return PretrainReport(scores={"test": SCORES}, output=config.output)

    monkeypatch.setattr(pretrain, "run", run)
    return configs


@pytest.fixture
def asked_for_codec(monkeypatch):
    """The same for the codec, whose work takes ten minutes."""
    configs = []

    def run(config, on_progress, on_event):
        configs.append(config)
        return MaskCodecPretrainReport(scores={"shape": CODEC_SCORES}, output=config.output)

    monkeypatch.setattr(pretrain_mask_codec, "run", run)
    return configs


def test_progress_and_scores_are_shown(run, asked):
    ended = run("pretrain", "tiny", "--output", "out/tiny", "--threads", "2")
    assert ended.code == 0
    assert ended.err.splitlines() == ["stage1: step 5/10  loss 1.250  7 examples/s", "pretrain: saved"]
    assert "scores on test" in ended.out
    assert "0.910" in ended.out
    (config,) = asked
    assert (config.output, config.runs, config.threads) == (Path("out/tiny"), Path("out/tiny.runs"), 2)


def test_the_folder_of_states_can_be_chosen(run, asked):
    run("pretrain", "tiny", "--output", "out", "--runs", "elsewhere")
    assert asked[0].runs == Path("elsewhere")


def test_the_mask_codec_has_its_own_scores(run, asked, asked_for_codec):
    ended = run("pretrain", "mask-codec", "--output", "out/codec", "--num-workers", "0")
    assert ended.code == 0
    assert "0.957" in ended.out
    assert "0.610" in ended.out
    assert ended.out.splitlines()[-1] == "out/codec"
    (config,) = asked_for_codec
    assert (config.output, config.runs) == (Path("out/codec"), Path("out/codec.runs"))
    assert config.num_workers == 0
    assert not asked


def test_nothing_else_can_be_pretrained(run, asked):
    ended = run("pretrain", "3b", "--output", "out")
    assert ended.has_failed_with("'3b' cannot be pre-trained here"), ended
    assert "'mask-codec'" in ended.err
    assert not asked
