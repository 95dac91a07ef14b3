import json
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.adapter import read_adapter
from paligemma2.checkpoint.load import load_model
from paligemma2.errors import DataError, InputError
from paligemma2.inference.loading import load
from paligemma2.jobs import convert
from paligemma2.jobs.merge_check import Change, LogitChange, ScoreChange, compare, examples_for
from tests.checkpoint.small_checkpoints import from_transformers, our_logits, their_logits
from tests.small_adapter import EVERYTHING, merged, save_random_adapter
from tests.small_model import save_picture, save_small_model, small_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_small_model(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_random_adapter(tmp_path / "adapter", small_config(), EVERYTHING)


def merge(folder: Path, adapter: Path, new: Path, **settings: object) -> Change:
    report = convert.run(folder, new, adapter=adapter, **settings)  # type: ignore[arg-type]
    return compare(folder, adapter, report.destination)


def write_examples(folder: Path, suffixes: list[str]) -> Path:
    lines = []
    for number, suffix in enumerate(suffixes):
        name = save_picture(folder / f"{number}.png", number).name
        lines.append(json.dumps({"image": name, "prefix": "caption en", "suffix": suffix}))
    (folder / "_annotations.valid.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_transformers_computes_from_the_folder_what_base_and_adapter_do_here(
    tmp_path: Path, folder: Path, adapter: Path
) -> None:
    change = merge(folder, adapter, tmp_path / "new")
    base = load_model(folder).model
    expected = our_logits(merged(base, read_adapter(adapter, base.config)))
    assert (expected - our_logits(base)).abs().max() > 0.1
    torch.testing.assert_close(our_logits(load_model(tmp_path / "new").model), expected, atol=1e-5, rtol=0)
    theirs = their_logits(from_transformers(tmp_path / "new"), base.config)
    torch.testing.assert_close(theirs, expected, atol=5e-5, rtol=0)
    assert isinstance(change, LogitChange)
    assert change.largest < 1e-4 * change.largest_logit


def test_without_examples_the_difference_of_logits_is_that_of_rounding(
    tmp_path: Path, folder: Path, adapter: Path
) -> None:
    changes = {}
    for name, settings in {"16": {"dtype": torch.bfloat16}, "8": {"quantize": "int8"}}.items():
        change = merge(folder, adapter, tmp_path / name, **settings)
        assert isinstance(change, LogitChange)
        changes[name] = change
    assert 1e-4 < changes["16"].largest / changes["16"].largest_logit < 0.1
    assert 1e-3 < changes["8"].largest / changes["8"].largest_logit < 0.3
    assert changes["8"].largest_logit == changes["16"].largest_logit > 1


def test_examples_are_scored_before_and_after(tmp_path: Path, folder: Path, adapter: Path) -> None:
    pictures = [save_picture(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    with_adapter = load(folder, device="cpu", adapter=adapter)
    right = [with_adapter.generate(picture, "caption en")[0].text for picture in pictures]
    plain = [load(folder, device="cpu").generate(picture, "caption en")[0].text for picture in pictures]
    assert right != plain
    data = write_examples(tmp_path / "data", [*right[:2], "something else"])
    events: list[str] = []
    examples = examples_for(data, tmp_path / "new")
    convert.run(folder, tmp_path / "new", adapter=adapter)
    change = compare(folder, adapter, tmp_path / "new", examples, events.append)
    assert change == ScoreChange(metric="exact match", before=2 / 3, after=2 / 3, examples=3)
    assert len(events) == 2
    base_alone = compare(folder, adapter, folder, examples)
    assert base_alone == ScoreChange(metric="exact match", before=2 / 3, after=0.0, examples=3)


def test_a_npz_is_compared_too_but_not_scored(tmp_path: Path, folder: Path, adapter: Path) -> None:
    change = merge(folder, adapter, tmp_path / "new.npz")
    assert isinstance(change, LogitChange)
    assert change.largest < 1e-4 * change.largest_logit
    data = write_examples(tmp_path / "data", ["a"])
    with pytest.raises(InputError, match="would have no tokenizer"):
        examples_for(data, tmp_path / "other.npz")


def test_a_base_without_a_tokenizer_is_merged_too(tmp_path: Path, folder: Path, adapter: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert isinstance(merge(folder, adapter, tmp_path / "new"), LogitChange)


def test_examples_that_are_not_there_are_missed_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        examples_for(tmp_path / "nowhere", tmp_path / "new")
