import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from paligemma2.data.readers.json_records import JsonRecords
from paligemma2.errors import ConfigError
from paligemma2.evaluation.protocol import (
    ProtocolSettings,
    config_under,
    decoding_of,
    differences,
    plain,
    protocol_hash,
    split_protocol,
    task_protocol,
)
from paligemma2.evaluation.targets import Field
from paligemma2.evaluation.task import Frames, Row
from paligemma2.metrics.scores import Metric
from paligemma2.model.config import PRESETS
from tests.small_task import EQUAL, small_task

PROJECT = Path(__file__).resolve().parents[2]
PLAIN = ProtocolSettings()


def of_val(task=None, settings=PLAIN, **changes):
    return split_protocol("colours", task or small_task(**changes), settings, "val")


NEWER = Row(title="Colours (val)", splits=("val",), metric=replace(EQUAL, version=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix": "{question}"},
        {"suffix": Field("answer", lower=True)},
        {"references": Field("answer")},
        {"meta": ("number",)},
        {"text_length": 16},
        {"beams": 2},
        {"antialias": False},
        {"final_cap": 30.0},
        {"attention_cap": None},
        {"window": 4096},
        {"frames": Frames(16, 30)},
        {"rows": (NEWER,)},
        {"splits": {"train": JsonRecords(file="train.json"), "val": JsonRecords(file="other.json")}},
    ],
)
def test_whatever_decides_the_numbers_changes_the_hash(changes):
    assert of_val()["hash"] != of_val(**changes)["hash"]
    assert differences(of_val(), of_val(**changes))


@pytest.mark.parametrize(
    "settings",
    [
        ProtocolSettings(name="hf"),
        ProtocolSettings(mode="official"),
        ProtocolSettings(limit=5),
        ProtocolSettings(control="shuffled pictures"),
    ],
)
def test_so_does_every_setting(settings):
    assert of_val()["hash"] != of_val(settings=settings)["hash"]


def test_what_decides_nothing_does_not():
    assert of_val(notes=("a doubt",), source="somebody else")["hash"] == of_val()["hash"]
    assert of_val(settings=ProtocolSettings(seed=7))["hash"] == of_val()["hash"]  # nothing is drawn
    assert of_val(settings=ProtocolSettings(seed=7, limit=5)) != of_val(settings=ProtocolSettings(limit=5))


def test_the_hash_is_the_same_in_another_process_and_of_what_json_gives_back():
    script = (
        "from tests.evaluation.test_protocol import of_val; import sys;"
        "sys.stdout.write(of_val()['hash'] + ' ' + str('torch' in sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "7"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[0] == of_val()["hash"]
    assert protocol_hash(json.loads(json.dumps(of_val()))) == of_val()["hash"]


def test_the_protocol_of_a_task_names_its_rows_and_all_their_splits():
    task = small_task()
    protocol = task_protocol("colours", task, PLAIN, task.rows)
    assert list(protocol["splits"]) == ["val"]
    assert protocol["metrics"] == [
        {"row": "Colours (val)", "splits": ["val"], "name": "equality", "version": 1}
    ]
    assert protocol["hash"] == protocol_hash(protocol)


def test_the_card_s_protocol_sets_caps_and_window_and_the_other_leaves_them():
    config = PRESETS["paligemma2-3b-pt-224"]
    text = config_under("paligemma", small_task(), config).text
    assert (text.final_cap, text.attention_cap, text.sliding_window) == (None, 50.0, None)
    assert config_under("hf", small_task(), config) == config


def test_beams_are_searched_by_the_rule_of_big_vision():
    assert decoding_of(small_task()).method == "greedy"
    decoding = decoding_of(small_task(beams=3, text_length=9))
    assert (decoding.method, decoding.beams, decoding.beam_rule) == ("beam", 3, "big_vision")
    assert decoding.max_new_tokens == 9


def test_functions_and_plain_values_have_a_text_and_others_are_refused():
    assert plain({"a": (1, None)}) == {"a": [1, None]}
    assert plain(frozenset("ba")) == ["a", "b"]
    assert plain(of_val) == "of_val"
    assert plain(partial(of_val, prefix="x")) == {
        "type": "partial",
        "of": "of_val",
        "with": [[], {"prefix": "x"}],
    }
    for bad in (lambda: 1, object()):
        with pytest.raises(ConfigError, match="cannot be part of a protocol"):
            plain(bad)


@pytest.mark.parametrize("wrong", [{"name": "x"}, {"mode": "x"}, {"control": "x"}, {"limit": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError):
        ProtocolSettings(**wrong)


def test_metrics_are_told_once_each():
    metric = Metric(name="other", source="this test", paligemma=EQUAL.paligemma)
    rows = (*small_task().rows, Row(title="again", splits=("val",), metric=metric))
    assert [each["name"] for each in of_val(rows=rows)["metrics"]] == ["equality", "other"]


def test_the_context_holds_the_frames_of_a_video():
    config = PRESETS["paligemma2-3b-pt-448"]
    assert config_under("paligemma", small_task(), config).text.max_positions == 8192
    assert config_under("paligemma", small_task(frames=Frames(16, 30)), config).text.max_positions == 17408
