"""Every golden score, file by file: names, cases and expectations come from the files alone.

`PALIGEMMA2_GOLDEN` may name another folder of the same schema.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.golden import answer_checks, caption_checks
from tests.golden.metric_cases import Check, GoldenFile, agree, run_check

CHECKS: Mapping[str, Check] = {**answer_checks.CHECKS, **caption_checks.CHECKS}

_SPECIALISED = "belong to benchmarks that are not in the package yet"
_ANSWERS = "come with the scores of answers"
LEFT_OUT: Mapping[str, str] = {
    "activitynet_qa": _ANSWERS,
    "anls": _ANSWERS,
    "aokvqa_da": _ANSWERS,
    "bigvision_vqa_multi": _ANSWERS,
    "bigvision_vqav2": _ANSWERS,
    "chartqa": _ANSWERS,
    "exact_match": _ANSWERS,
    "gqa": _ANSWERS,
    "nlvr2": _ANSWERS,
    "pope": _ANSWERS,
    "rsvqa": _ANSWERS,
    "scienceqa": _ANSWERS,
    "segmentation_miou": _ANSWERS,
    "tallyqa": _ANSWERS,
    "textvqa": _ANSWERS,
    "vizwiz": _ANSWERS,
    "vqa_normalize": _ANSWERS,
    "vqav2": _ANSWERS,
    "grits": _SPECIALISED,
    "teds": _SPECIALISED,
    "kern_cer_ser_ler": _SPECIALISED,
    "kern_cer_ser_ler_2023": _SPECIALISED,
    "kern_tokenize": _SPECIALISED,
    "smiles_exact_match": _SPECIALISED,
    "text_detection_totaltext": _SPECIALISED,
    "text_spotting_hiertext": _SPECIALISED,
    "text_spotting_rrc_ic15": _SPECIALISED,
    "radgraph_f1": _SPECIALISED,
    "report_bleu_rouge_cider": _SPECIALISED,
    "vsr_accuracy": _SPECIALISED,
}


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_our_scores_are_those_of_the_reference(name: str, golden_metrics: Path) -> None:
    run_check(golden_metrics / f"{name}.json", CHECKS[name])


def test_every_file_is_either_compared_or_left_out_for_a_reason(golden_metrics: Path) -> None:
    present = {path.stem for path in golden_metrics.iterdir()}
    assert sorted(present - set(CHECKS) - set(LEFT_OUT)) == []
    assert sorted(set(CHECKS) & set(LEFT_OUT)) == []


def written(folder: Path, **content: object) -> Path:
    path = folder / "things.json"
    about = {"metric": "", "source": "", "licence": "", "notes": ""}
    path.write_text(json.dumps(about | content), "utf-8")
    return path


def test_an_expectation_that_is_not_read_fails(tmp_path: Path) -> None:
    def check(file: GoldenFile) -> None:
        for case in file.cases:
            case.check("expected", 1.0)

    run_check(written(tmp_path, cases=[{"expected": 1}]), check)
    with pytest.raises(AssertionError, match="bigvision_acc"):
        run_check(written(tmp_path, cases=[{"expected": 1, "bigvision_acc": 1}]), check)
    with pytest.raises(AssertionError, match="over_all"):
        run_check(written(tmp_path, cases=[{"expected": 1}], over_all={"mean": 1}), check)
    with pytest.raises(AssertionError, match="no cases"):
        run_check(written(tmp_path, cases=[]), check)
    with pytest.raises(AssertionError, match=r"ours 1\.0, expected 0\.5"):
        run_check(written(tmp_path, cases=[{"expected": 0.5}]), check)


def test_an_expectation_inside_of_another_must_be_read_too(tmp_path: Path) -> None:
    def check(file: GoldenFile) -> None:
        for case in file.cases:
            case["expected"].check("mean", 1.0)

    run_check(written(tmp_path, cases=[{"expected": {"mean": 1}}]), check)
    with pytest.raises(AssertionError, match="deviation"):
        run_check(written(tmp_path, cases=[{"expected": {"mean": 1, "deviation": 0}}]), check)


def test_where_the_reference_raises_ours_is_a_defined_value(tmp_path: Path) -> None:
    path = written(tmp_path, cases=[{"expected": {"error": "ZeroDivisionError"}}, {"expected": "error:x"}])

    def check(file: GoldenFile, ours: float | None) -> None:
        for case in file.cases:
            case.check("expected", ours)

    run_check(path, partial(check, ours=0.0))
    for undefined in (None, float("nan")):
        with pytest.raises(AssertionError, match="2 differ"):
            run_check(path, partial(check, ours=undefined))


def test_what_is_left_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, cases=[{"expected": {"mean": 1}}], published={"CIDEr": 0.6})

    def check(file: GoldenFile) -> None:
        file.leave("published", why="its references are not here")
        file.cases[0].leave("expected", why="a test of leaving")

    run_check(path, check)


@pytest.mark.parametrize(
    ("ours", "expected", "is_right"),
    [
        (1.0, 1, True),
        (1.0, True, True),
        (0.5, True, False),
        (float("nan"), float("nan"), True),
        ([1.0, {"a": 2}], [1, {"a": 2.0}], True),
        ([1.0], [1.0, 1.0], False),
        ({"a": 1}, {"b": 1}, False),
        ("a", "b", False),
        ("1", 1, False),
    ],
)
def test_agreement(ours: object, expected: object, is_right: bool) -> None:
    assert agree(ours, expected) is is_right
