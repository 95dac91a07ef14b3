import html
import json
import os
import re
import signal
from pathlib import Path

import pytest
from PIL import Image

from paligemma2.assets import PICTURES_FOLDER
from paligemma2.errors import InputError, Interrupted
from paligemma2.inference import loading
from paligemma2.inference.loading import load
from paligemma2.jobs import demo
from tests.small_model import save_small_model


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model in place of the shipped one, and a task that is as small."""
    monkeypatch.setattr(loading, "TINY_FOLDER", save_small_model(tmp_path / "small"))
    monkeypatch.setattr(demo, "TRAIN", 12)
    monkeypatch.setattr(demo, "HELD_OUT", 7)


def scores_of(folder: Path) -> dict[str, float]:
    record = json.loads((folder / "sorting_model" / "transfer.json").read_text(encoding="utf-8"))
    scores: dict[str, float] = record["scores"]
    return scores


def test_the_page_holds_the_pictures_the_answers_and_the_scores(tmp_path: Path) -> None:
    events: list[str] = []
    page = demo.run(tmp_path / "demo", events.append, steps=2)
    assert page == tmp_path / "demo" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert text.count('src="data:image/png;base64,') == 3 + 6
    for prompt in ("caption en", "detect red circle ; green star", "ocr", "sort the part"):
        assert html.escape(prompt) in text
    scores = scores_of(tmp_path / "demo")
    cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", text, re.DOTALL)]
    assert cells == ["exact match, 7 pictures", f"{scores['before']:.2f}", f"{scores['after']:.2f}"]
    assert any(event.startswith("shapes.png  caption en  ->") for event in events)
    assert any(event.startswith("step 2 of 2") for event in events)
    assert "before" in events[-1]
    load(tmp_path / "demo" / "sorting_model", device="cpu")


def test_a_second_demo_replaces_the_first(tmp_path: Path) -> None:
    demo.run(tmp_path / "demo", lambda event: None, steps=1)
    (tmp_path / "demo" / "index.html").write_text("old")
    page = demo.run(tmp_path / "demo", lambda event: None, steps=2)
    assert page.read_text(encoding="utf-8") != "old"
    record = json.loads((tmp_path / "demo" / "sorting_model" / "transfer.json").read_text(encoding="utf-8"))
    assert record["transfer"]["training"]["steps"] == 2
    log = (tmp_path / "demo" / "sorting_model.run" / "log.jsonl").read_text(encoding="utf-8")
    assert len(log.splitlines()) == 1


def test_a_demo_that_was_stopped_does_not_hinder_one_with_other_settings(tmp_path: Path) -> None:
    def stop(event: str) -> None:
        if event.startswith("step 50 "):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="step 50 of 60"):
        demo.run(tmp_path / "demo", stop, steps=60)
    assert list((tmp_path / "demo" / "sorting_model.run").glob("step-*"))
    demo.run(tmp_path / "demo", lambda event: None, steps=1)
    assert scores_of(tmp_path / "demo")["examples"] == 7


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "demo" / "sorting_model" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="not of an earlier demo"):
        demo.run(tmp_path / "demo", lambda event: None, steps=1)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["shapes", "sign", "freehand"])
def test_the_bundled_pictures_are_small_png_files(name: str) -> None:
    path = PICTURES_FOLDER / f"{name}.png"
    assert path.stat().st_size < 40_000
    with Image.open(path) as image:
        assert (image.format, image.mode, image.width) == ("PNG", "RGB", 336)
