import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import fsspec
import pyarrow.parquet
import pytest

from paligemma2.errors import DataError, InputError, WorkError
from paligemma2.jobs import bulk_output
from paligemma2.jobs.bulk_output import (
    MAX_DEATHS,
    BulkOutput,
    BulkPrediction,
    finished_files,
    only_this_process_sees,
)
from paligemma2.jobs.bulk_sources import BulkProblem

NAME = "0123456789abcdef0123-000000"
PROBLEM = BulkProblem(source="a.tar#3", reason="the picture cannot be read", detail="broken")


def prediction(number: int) -> BulkPrediction:
    return BulkPrediction(
        source=f"a.tar#{number}",
        id=str(number),
        prompt="answer en what?",
        prediction="cat\n猫",
        answers=("cat", "kitten"),
        finish_reason="stop",
        log_prob=-0.5,
        seconds=0.1,
        unit="a.png",
        meta="{}",
        fields='{"question": "what?"}',
    )


@pytest.fixture(params=["file", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> BulkOutput:
    if request.param == "file":
        return BulkOutput(str(tmp_path / "out"))
    files = fsspec.filesystem("memory")
    if files.exists("/bulk-output"):
        files.rm("/bulk-output", recursive=True)
    return BulkOutput("memory://bulk-output")


def test_what_is_written_is_read(output: BulkOutput) -> None:
    rows = [prediction(0), prediction(1)]
    output.write(NAME, rows, [PROBLEM])
    output.write(f"{NAME[:-1]}1-last", [], [])
    assert list(output.predictions()) == rows
    assert list(output.problems()) == [PROBLEM]
    assert output.finished() == {NAME, f"{NAME[:-1]}1-last"}
    assert output.has(NAME)
    assert not output.has("another")
    assert output.counts(NAME) == (2, 1)
    assert output.counts(f"{NAME[:-1]}1-last") == (0, 0)


def test_a_part_that_is_written_again_replaces_the_first(output: BulkOutput) -> None:
    for _ in range(2):
        output.write(NAME, [prediction(0)], [PROBLEM])
    assert list(output.predictions()) == [prediction(0)]
    assert list(output.problems()) == [PROBLEM]


def test_an_empty_folder_holds_nothing(output: BulkOutput) -> None:
    assert output.finished() == frozenset()
    assert list(output.predictions()) == []
    with pytest.raises(DataError, match="holds no bulk job"):
        output.job()


def test_the_same_job_goes_on_and_another_does_not(output: BulkOutput) -> None:
    output.begin({"prompt": "a", "files": [["x.tar", 3]]})
    output.begin({"files": [["x.tar", 3]], "prompt": "a"})
    assert output.job() == {"prompt": "a", "files": [["x.tar", 3]]}
    with pytest.raises(InputError, match="another job: files, prompt differ"):
        output.begin({"prompt": "b", "files": []})


def test_a_folder_of_other_results_is_left_alone(output: BulkOutput) -> None:
    output.write(NAME, [], [])
    with pytest.raises(InputError, match=r"predictions without job\.json"):
        output.begin({})


def test_arrow_reads_the_folder_as_one_table(tmp_path: Path) -> None:
    output = BulkOutput(str(tmp_path / "out"))
    output.write(NAME, [prediction(0), prediction(1)], [])
    output.write(f"{NAME[:-1]}1-last", [], [])
    table = pyarrow.parquet.read_table(tmp_path / "out" / "predictions")
    assert table["prediction"].to_pylist() == ["cat\n猫"] * 2
    assert table.schema.names[:4] == ["source", "id", "prompt", "prediction"]


def test_a_damaged_part_is_told(tmp_path: Path) -> None:
    output = BulkOutput(str(tmp_path / "out"))
    output.write(NAME, [prediction(0)], [])
    (tmp_path / "out" / "predictions" / f"{NAME}.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="is damaged"):
        list(output.predictions())


def test_a_file_is_finished_with_all_its_units() -> None:
    whole = {"aa-000000", "aa-000001", "aa-000002-last"}
    assert finished_files(frozenset(whole | {"bb-000000", "cc-000001-last"})) == {"aa"}
    assert finished_files(frozenset(whole - {"aa-000001"})) == frozenset()


def test_a_mark_goes_when_the_work_ends_and_when_it_fails(tmp_path: Path) -> None:
    output = BulkOutput(str(tmp_path / "out"))
    with output.trying(NAME, "rows"):
        assert len(list((tmp_path / "out" / "_partial").iterdir())) == 1
    with pytest.raises(ZeroDivisionError), output.trying(NAME, "rows"):
        raise ZeroDivisionError
    assert list((tmp_path / "out" / "_partial").iterdir()) == []


def _die(folder: str) -> None:
    with BulkOutput(folder).trying(NAME, "rows"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_rows_that_kill_one_worker_after_the_other_end_the_job(tmp_path: Path) -> None:
    for _ in range(MAX_DEATHS):
        process = multiprocessing.get_context("spawn").Process(target=_die, args=(str(tmp_path),))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    output = BulkOutput(str(tmp_path))
    with (
        pytest.raises(WorkError, match=r"5 workers died at the same rows, a\.tar#0"),
        output.trying(NAME, "a.tar#0"),
    ):
        pass
    with output.trying("another", "rows"):
        pass
    output.clean()
    with output.trying(NAME, "rows"):
        pass


def _write_for_ever(folder: str) -> None:
    output, rows = BulkOutput(folder), [prediction(number) for number in range(2000)]
    number = 0
    while True:
        output.write(f"{NAME[:-6]}{number:06d}", rows, [PROBLEM])
        number += 1


def test_a_writer_that_is_killed_leaves_whole_parts_only(tmp_path: Path) -> None:
    output = BulkOutput(str(tmp_path))
    process = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(str(tmp_path),))
    process.start()
    while len(output.finished()) < 3:
        time.sleep(0.01)
    process.kill()
    process.join()
    names = output.finished()
    assert {output.counts(name) for name in names} == {(2000, 1)}
    assert len(list(output.predictions())) == 2000 * len(names)


def test_a_file_system_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    output = BulkOutput(str(tmp_path))
    monkeypatch.setattr(output._files, "mv", refuse)
    with pytest.raises(WorkError, match="No space left"):
        output.write(NAME, [prediction(0)], [])


def test_memory_is_seen_by_one_process() -> None:
    assert only_this_process_sees("memory://x")
    assert not only_this_process_sees("/x")


def test_a_job_is_plain_json(tmp_path: Path) -> None:
    BulkOutput(str(tmp_path)).begin({"b": 1, "a": 2})
    assert json.loads((tmp_path / bulk_output.JOB).read_text()) == {"a": 2, "b": 1}
