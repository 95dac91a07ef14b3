import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from paligemma2.drawing.colours import PALETTE
from paligemma2.errors import Interrupted, WorkError
from paligemma2.jobs import transfer
from paligemma2.jobs.transfer_evaluation import Evaluation, EvaluationSettings
from paligemma2.jobs.transfer_page import Shown, reported, transfer_page
from paligemma2.training.run_log import EVALUATIONS, append_to_log
from paligemma2.types import Example
from tests.small_model import save_picture
from tests.small_transfer import quiet, small_transfer, stop_at

BOX = "<loc0100><loc0200><loc0500><loc0600> cat"
OTHER = "<loc0300><loc0300><loc0900><loc0900> cat"


def evaluation(step: int, score: float) -> Evaluation:
    return Evaluation(step=step, score=score, loss=2.0 - score, seconds=1.0)


def write_run(folder: Path, updates: int = 5) -> Path:
    for step in range(1, updates + 1):
        numbers = {"loss": 4.0 / step, "learning_rate": 1e-5, "grad_norm": 2.0, "examples_per_second": 9.0}
        counters = {"not_finite": 1, "spikes": 2, "skipped": 3, "skipped_examples": 4, "cut_suffixes": 5}
        append_to_log(folder, {"step": step, "steps": 8, "seconds": 1.0, **numbers, **counters})
    append_to_log(folder, vars(evaluation(3, 0.75)), EVALUATIONS)
    run = {
        "transfer": {"training": {"learning_rate": 3e-6}, "lora": None},
        "examples": 1200,
        "left_out": {"no picture": 2},
        "data": "abc123",
        "versions": {"torch": "2.0"},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def shown_of(folder: Path, *, after: str | None = OTHER, count: int = 1) -> Shown:
    save_picture(folder / "a.png")
    example = Example(images=(folder / "a.png",), prefix="detect cat", suffix=BOX)
    return Shown(
        metric="mean box IoU",
        examples=[example] * count,
        before=["nothing"] * count,
        after=[] if after is None else [after] * count,
        start=evaluation(0, 0.25),
        end=None if after is None else evaluation(3, 0.75),
    )


def rows(page: str) -> dict[str, list[str]]:
    found = re.findall(r"<tr>\s*(.*?)\s*</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in found]
    return {row[0]: row[1:] for row in cells if row}


def pictures(page: str) -> list[Image.Image]:
    data = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in data]


def has_colour(picture: Image.Image, colour: str) -> bool:
    return bool((np.asarray(picture.convert("RGB")) == ImageColor.getrgb(colour)).all(axis=-1).any())


def test_the_page_has_scores_curves_counters_and_settings(tmp_path: Path) -> None:
    page = transfer_page(write_run(tmp_path / "new.run"), shown_of(tmp_path), "finished")
    assert "<h1>Transfer: new</h1>" in page
    assert "Finished." in page
    assert "5 of 8 updates in the log." in page
    assert "1,200 examples to train on, 1 held out." in page
    table = rows(page)
    assert table["before"] == ["0.250", "1.7500", "0"]
    assert table["after"] == ["0.750", "1.2500", "3"]
    assert table["updates left out"] == ["3"]
    assert table["updates whose loss or gradient was not a number"] == ["1"]
    assert table["gradient spikes"] == ["2"]
    assert table["rows left out when the data was read"] == ["2"]
    assert table["examples that others stood in for"] == ["4"]
    assert table["suffixes that were cut"] == ["5"]
    assert table["training.learning_rate"] == ["3e-06"]
    assert table["lora"] == ["none"]
    assert table["versions.torch"] == ["2.0"]
    assert table["data digest"] == ["abc123"]


def test_there_is_a_curve_for_each_number(tmp_path: Path) -> None:
    page = transfer_page(write_run(tmp_path / "new.run"), shown_of(tmp_path), "finished")
    summaries = re.findall(r'<svg[^>]*aria-label="([^"]+)"', page)
    assert summaries == [
        "Validation: mean box IoU: 0.25 at 0 updates, 0.75 at 3",
        "Validation: loss: 1.75 at 0 updates, 1.25 at 3",
        "Training: loss: 4 at 1 updates, 0.8 at 5",
        "Gradient norm: 2 at 1 updates, 2 at 5",
        "Learning rate: 1e-05 at 1 updates, 1e-05 at 5",
        "Examples per second: 9 at 1 updates, 9 at 5",
    ]
    assert page.count('class="marked"') == 2


def test_the_boxes_of_the_right_and_the_new_answer_are_drawn(tmp_path: Path) -> None:
    page = transfer_page(write_run(tmp_path / "new.run"), shown_of(tmp_path), "finished")
    (picture,) = pictures(page)
    assert has_colour(picture, PALETTE[0])
    assert has_colour(picture, PALETTE[1])
    answers = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert answers == {"prompt": "detect cat", "right": "1 cat", "before": "nothing", "after": "1 cat"}


def test_before_there_is_a_new_answer_the_old_one_is_shown(tmp_path: Path) -> None:
    page = transfer_page(tmp_path / "new.run", shown_of(tmp_path, after=None), "stopped at step 5 of 8")
    assert "Stopped at step 5 of 8." in page
    assert "after" not in rows(page)
    assert dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)).keys() == {"prompt", "right", "before"}


def test_of_many_examples_some_are_shown(tmp_path: Path) -> None:
    page = transfer_page(tmp_path / "new.run", shown_of(tmp_path, count=100), "finished")
    assert len(pictures(page)) == 12
    assert "12 of 100 held-out examples." in page


def test_an_example_whose_picture_is_gone_is_left_out(tmp_path: Path) -> None:
    shown = shown_of(tmp_path)
    (tmp_path / "a.png").unlink()
    assert pictures(transfer_page(tmp_path / "new.run", shown, "finished")) == []


def test_a_page_of_a_run_that_has_nothing_yet_can_be_written(tmp_path: Path) -> None:
    page = transfer_page(tmp_path / "new.run", Shown(), "failed: no memory")
    assert "Failed: no memory." in page
    assert "<svg" not in page


def test_an_error_is_told_on_the_page_and_raised(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="the loss is nan"), reported(tmp_path / "new.run", pytest.fail):
        raise WorkError("the loss is nan", hint="try a lower rate")
    assert "Failed: the loss is nan." in (tmp_path / "new.run" / "report.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_warned_of_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "new.run" / "report.html").mkdir(parents=True)
    warned: list[str] = []
    with reported(tmp_path / "new.run", warned.append):
        pass
    assert len(warned) == 1
    assert "report.html could not be written" in warned[0]


def test_a_transfer_leaves_logs_and_page_behind_and_no_states(tmp_path: Path) -> None:
    config = small_transfer(tmp_path)
    config = replace(config, evaluation=EvaluationSettings(every=2, max_new_tokens=6))
    report = transfer.run(config, quiet)
    names = {path.name for path in config.run_folder.iterdir()}
    assert names == {"run.json", "start.json", "log.jsonl", "evaluations.jsonl", "report.html"}
    page = (config.run_folder / "report.html").read_text(encoding="utf-8")
    assert rows(page)["after"][0] == f"{report.after:.3f}"
    assert len(pictures(page)) == 3


def test_a_stopped_transfer_has_a_page_of_what_is_there_so_far(tmp_path: Path) -> None:
    config = small_transfer(tmp_path, steps=20)
    with pytest.raises(Interrupted):
        transfer.run(config, stop_at(10))
    page = (config.run_folder / "report.html").read_text(encoding="utf-8")
    assert f"Stopped at step 10 of 20, saved in {config.run_folder}." in page
    assert "10 of 20 updates in the log." in page
    transfer.run(config, quiet)
    page = (config.run_folder / "report.html").read_text(encoding="utf-8")
    assert "Finished." in page
    assert "Training: loss" in page


def test_what_was_done_to_examples_is_counted_once_however_often_a_run_is_stopped(tmp_path: Path) -> None:
    config = small_transfer(tmp_path, ("a cat", "what is this caption answer"), steps=20)
    config = replace(config, rules=replace(config.rules, text_length=8))
    transfer.run(replace(config, output=tmp_path / "whole"), quiet)
    with pytest.raises(Interrupted):
        transfer.run(config, stop_at(10))
    transfer.run(config, quiet)
    counted = [
        rows((folder / "report.html").read_text(encoding="utf-8"))["suffixes that were cut"]
        for folder in (config.run_folder, tmp_path / "whole.run")
    ]
    assert counted == [["30"], ["30"]]
