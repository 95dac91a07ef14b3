import csv
import json
import math

import pytest

from paligemma2.jobs.sweep_table import (
    RunResult,
    as_csv,
    as_markdown,
    as_record,
    best_run,
    cells,
    rows_of,
)

RATE = "training.learning_rate"


def result(rate: str, seed: int, score: float | None) -> RunResult:
    error = "" if score is not None else "the loss is nan"
    before = None if score is None else 0.1
    return RunResult(
        name=f"{rate}_{seed}", settings={RATE: rate}, seed=seed, before=before, score=score, error=error
    )


RESULTS = [
    *(result("1e-06", seed, score) for seed, score in enumerate((0.5, 0.7))),
    *(result("1e-05", seed, None) for seed in (0, 1)),
    *(result("3e-06", seed, score) for seed, score in enumerate((0.9, None))),
]


def test_combinations_come_best_mean_first_and_those_that_failed_last() -> None:
    assert [row.settings[RATE] for row in rows_of(RESULTS)] == ["3e-06", "1e-06", "1e-05"]


def test_mean_and_deviation_are_over_the_runs_that_did_not_fail() -> None:
    by_rate = {row.settings[RATE]: row for row in rows_of(RESULTS)}
    assert by_rate["1e-06"].mean == pytest.approx(0.6)
    assert by_rate["1e-06"].deviation == pytest.approx(math.sqrt(0.02))
    assert (by_rate["3e-06"].mean, by_rate["3e-06"].deviation) == (0.9, None)
    assert (by_rate["1e-05"].mean, by_rate["1e-05"].deviation) == (None, None)


def test_the_best_run_is_of_the_best_combination() -> None:
    best = best_run(rows_of([result("1e-06", 0, 0.6), result("1e-06", 1, 0.6), *RESULTS[2:4]]))
    assert best is not None
    assert best.name == "1e-06_0"
    assert best_run(rows_of(RESULTS[2:4])) is None
    assert best_run([]) is None


def test_the_table_has_every_seed_with_mean_and_deviation() -> None:
    header, rows = cells(rows_of(RESULTS), "exact match")
    assert header == ("learning_rate", "before", "seed 0", "seed 1", "mean exact match", "deviation")
    assert rows == [
        ("3e-06", "0.100", "0.900", "failed", "0.900", ""),
        ("1e-06", "0.100", "0.500", "0.700", "0.600", "0.141"),
        ("1e-05", "0.100", "failed", "failed", "failed", ""),
    ]


def test_with_one_seed_the_table_has_its_score_alone() -> None:
    header, rows = cells(rows_of([result("1e-06", 0, 0.5)]), "exact match")
    assert (header, rows) == (("learning_rate", "before", "exact match"), [("1e-06", "0.100", "0.500")])


def test_seeds_that_are_still_to_come_are_empty() -> None:
    _, rows = cells(rows_of([*RESULTS[:2], result("3e-06", 0, 0.4)]), "exact match")
    assert rows[1] == ("3e-06", "0.100", "0.400", "", "0.400", "")


def test_markdown_csv_and_json_hold_the_same() -> None:
    rows = rows_of(RESULTS)
    table = cells(rows, "exact match")
    lines = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in as_markdown(*table).splitlines()
    ]
    assert [lines[0], *lines[2:]] == [table[0], *table[1]]
    assert [tuple(line) for line in csv.reader(as_csv(*table).splitlines())] == [table[0], *table[1]]
    record = json.loads(json.dumps(as_record(rows, "exact match")))
    assert [row["mean"] for row in record["rows"]] == [row.mean for row in rows]
    assert record["rows"][1]["runs"][1]["score"] == 0.7
