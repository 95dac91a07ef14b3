import dataclasses
import json
from pathlib import Path
from statistics import fmean

import pytest

from paligemma2.errors import InputError
from paligemma2.model.config import PRESETS, ModelConfig, preset
from paligemma2.training.recipes import NAMES, TRANSFERS, recipe_named

SIZES = ("3b", "10b", "28b")
# The rows of table 14 that a transfer is trained for, where they are not called as it is.
ROWS = {
    "chartqa": ("ChartQA (aug)", "ChartQA (human)"),
    "coco35l": ("COCO-35L (avg34)", "COCO-35L (en)"),
    "refcoco": ("RefCOCO", "RefCOCO+", "RefCOCOg"),
    "tallyqa": ("TallyQA (complex)", "TallyQA (simple)"),
}


def model(size: str = "3b", pixels: int = 224) -> ModelConfig:
    return preset(f"paligemma2-{size}-pt-{pixels}")


def plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


@pytest.mark.golden
@pytest.mark.parametrize("name", TRANSFERS)
def test_learning_rates_are_the_best_of_the_sweep_for_each_size(shared: Path, name: str) -> None:
    table = json.loads((shared / "spec" / "pg2_lr_sweep_table14.json").read_text())
    rows = [
        row
        for row in table["rows"]
        if row["task"] in ROWS.get(name, ()) or (name not in ROWS and plain(row["task"]) == plain(name))
    ]
    assert rows
    for size in SIZES:
        scores = [row[size.upper()]["scores"] for row in rows if size.upper() in row]
        if not scores:
            continue
        means = [fmean(column) for column in zip(*scores, strict=True)]
        best = next(
            rate
            for rate, mean in zip(table["learning_rates"], means, strict=True)
            if mean == pytest.approx(max(means), abs=1e-9)
        )
        assert recipe_named(name, model(size)).training.learning_rate == best


@pytest.mark.parametrize(
    ("name", "pixels", "expected"),
    [
        ("infovqa", 224, {"batch_size": 256, "weight_decay": 1e-6, "label_smoothing": 0.4}),
        ("infovqa", 896, {"batch_size": 32, "weight_decay": 3e-7}),
        ("refcoco", 224, {"dropout": 0.1, "label_smoothing": 0.3, "batch_size": 256}),
        ("refcoco", 448, {"dropout": 0.0, "label_smoothing": 0.3, "batch_size": 256}),
        ("refcoco", 896, {"batch_size": 64}),
        ("gqa", 224, {"freeze": ()}),
        ("gqa", 448, {"freeze": ("image",)}),
        ("scienceqa", 224, {"freeze": ("image",), "batch_size": 128}),
        ("screen2words", 448, {"dropout": 0.3, "label_smoothing": 0.2}),
    ],
)
def test_settings_are_those_of_the_paper_for_each_resolution(
    name: str, pixels: int, expected: dict[str, object]
) -> None:
    recipe = recipe_named(name, model(pixels=pixels)).training
    assert {key: getattr(recipe, key) for key in expected} == expected


@pytest.mark.parametrize("name", TRANSFERS)
def test_transfers_decay_as_big_vision_and_go_without_the_final_cap(name: str) -> None:
    named = recipe_named(name, model())
    assert named.name == name
    assert named.epochs is not None
    assert named.text_length is not None
    assert not named.has_final_cap
    assert (named.training.decay_rule, named.training.grad_clip) == ("big_vision", 1.0)
    assert (named.training.schedule, named.training.warmup_fraction) == ("cosine", 0.05)


def test_a_model_of_another_width_takes_the_rate_of_the_first_paper() -> None:
    other = dataclasses.replace(model(), text=dataclasses.replace(model().text, hidden_size=2048))
    assert recipe_named("cococap", other).training.learning_rate == 1e-5
    assert recipe_named("msvd_qa", model("28b")).training.learning_rate == 3e-6


def test_without_a_name_the_size_of_the_model_decides() -> None:
    assert recipe_named(None, PRESETS["tiny"]).name == "small"
    assert recipe_named(None, model("10b")).name == "own"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="there is no recipe 'coco_cap'") as raised:
        recipe_named("coco_cap", model())
    assert "did you mean 'cococap'?" in raised.value.hint
    assert all(name in raised.value.hint for name in NAMES)
