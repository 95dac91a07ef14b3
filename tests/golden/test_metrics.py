"""Every golden score, file by file: names, cases and expectations come from the files alone.

`PALIGEMMA2_GOLDEN` may name another folder of the same schema.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.golden import answer_checks, caption_checks
from tests.golden.metric_cases import Check, GoldenFile, agree, printed_numbers, run_check

CHECKS: Mapping[str, Check] = {**answer_checks.CHECKS, **caption_checks.CHECKS}

_SPECIALISED = "belong to benchmarks that are not in the package yet"
LEFT_OUT: Mapping[str, str] = {
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


def test_every_number_that_was_printed_is_compared(tmp_path: Path) -> None:
    text = "TP\tFP\t\n3\t1\nAccuracy: 57.14%\nKinds:\n  dog: 0.50 (2 questions)\nrecall=0.25\n"
    numbers = {
        "TP": ["3"],
        "FP": ["1"],
        "Accuracy": ["57.14"],
        "Kinds: dog": ["0.50", "2"],
        "recall": ["0.25"],
    }
    assert printed_numbers(text) == numbers
    path = written(tmp_path, cases=[{"expected_stdout": text}])

    def check(file: GoldenFile, ours: Mapping[str, object]) -> None:
        for case in file.cases:
            case.check_printed("expected_stdout", ours)

    run_check(path, partial(check, ours=numbers | {"recall": [0.25], "more": [1]}))
    for label, wrong in (("TP", ["2"]), ("Kinds: dog", ["0.50"]), ("recall", [0.26]), ("Accuracy", [])):
        with pytest.raises(AssertionError, match=f"{label}: ours"):
            run_check(path, partial(check, ours=numbers | {label: wrong}))


@pytest.mark.parametrize(
    ("ours", "expected", "is_right"),
    [
        (1.0, 1, True),
        (1.0, True, True),
        (0.5, True, False),
        (float("nan"), float("nan"), True),
        (0.0, float("nan"), True),
        (None, float("nan"), False),
        (float("nan"), 0.0, False),
        ([1.0, {"a": 2}], [1, {"a": 2.0}], True),
        ([1.0], [1.0, 1.0], False),
        ({"a": 1}, {"b": 1}, False),
        ("a", "b", False),
        ("1", 1, False),
    ],
)
def test_agreement(ours: object, expected: object, is_right: bool) -> None:
    assert agree(ours, expected) is is_right
