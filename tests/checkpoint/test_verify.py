import dataclasses
import math
from pathlib import Path

import pytest
import torch

from paligemma2.checkpoint.big_vision_npz import write_npz
from paligemma2.checkpoint.layouts import EMBEDDING, expected_shapes
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.open_checkpoint import Checkpoint, open_checkpoint
from paligemma2.checkpoint.save import save_model
from paligemma2.checkpoint.verify import _picture, logit_fingerprint, tensor_report, weights_digest
from paligemma2.checkpoint.weights import StoredTensor
from paligemma2.model.config import PRESETS
from paligemma2.model.prefix_mask import PrefixLayout
from tests.checkpoint.small_checkpoints import random_model, small_config


class HeadersOnly:
    """The headers of a released model, whose weights are not here."""

    layout, path, num_zero_rows = "none", Path(), 0

    def __init__(self, name: str, num_zero_rows: int = 0) -> None:
        shapes = expected_shapes(PRESETS[name])
        self.tensors = {tensor: StoredTensor(shape, torch.bfloat16) for tensor, shape in shapes.items()}
        self.num_zero_rows = num_zero_rows


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("paligemma2-3b-pt-224", 3_032_242_416),
        ("paligemma2-10b-pt-224", 9_662_638_832),
        ("paligemma2-28b-pt-224", 27_650_487_024),
    ],
)
def test_the_counts_of_released_sizes_are_those_of_the_card(name: str, total: int) -> None:
    report = tensor_report(HeadersOnly(name))  # type: ignore[arg-type]
    assert report.num_parameters == total
    assert report.parameters["image encoder"] == 412_442_352
    assert report.dtypes == {"bfloat16": total}
    assert report.num_bytes == 2 * total


def test_rows_that_the_file_does_not_hold_are_not_counted() -> None:
    report = tensor_report(HeadersOnly("paligemma2-3b-pt-224", num_zero_rows=64))  # type: ignore[arg-type]
    assert report.num_parameters == 3_032_094_960
    assert report.parameters["embedding"] == 592_478_208
    assert report.num_bytes == 2 * 3_032_094_960


def whole_model_samples(folder: Path) -> list[float]:
    """What the fingerprint should be, by the whole model at once."""
    loaded = load_model(folder, dtype=torch.float32)
    config, count = loaded.config, 64
    rows = torch.arange(count) * config.num_text_rows // count
    slots = torch.full((1, config.num_image_tokens), config.image_token_id)
    token_ids = torch.cat([slots, rows[torch.arange(8) * 7 % count][None]], dim=1)
    valid = torch.ones_like(token_ids, dtype=torch.bool)
    with torch.no_grad():
        logits = loaded.model(token_ids, _picture(config), PrefixLayout.from_flags(valid, valid))
    return logits[0, -1, rows].tolist()


def test_block_by_block_gives_the_logits_of_the_whole_model(folder: Path) -> None:
    fingerprint = logit_fingerprint(open_checkpoint(folder))
    assert fingerprint.samples == pytest.approx(whole_model_samples(folder), abs=2e-5)
    assert fingerprint.mean == pytest.approx(sum(fingerprint.samples) / 64)
    assert fingerprint.largest == max(fingerprint.samples)
    assert len(fingerprint.digest) == 16


def test_the_fingerprint_is_the_same_in_every_layout(tmp_path: Path, folder: Path) -> None:
    opened = open_checkpoint(folder)
    model = load_model(folder).model
    state = model.state_dict()
    save_model(tmp_path / "new", model, opened.config, key_layout="new", max_shard_size=50_000)
    write_npz(tmp_path / "a.npz", opened.config, dict.fromkeys(state, torch.float32), state.__getitem__)
    others = (open_checkpoint(tmp_path / "new"), open_checkpoint(tmp_path / "a.npz", opened.config))
    assert {logit_fingerprint(other) for other in others} == {logit_fingerprint(opened)}


def test_another_weight_or_setting_gives_another_fingerprint(tmp_path: Path, folder: Path) -> None:
    opened = open_checkpoint(folder)
    digest = logit_fingerprint(opened).digest
    uncapped = dataclasses.replace(opened.config.text, final_cap=1.0)
    other = Checkpoint(dataclasses.replace(opened.config, text=uncapped), opened.weights, folder)
    assert logit_fingerprint(other).digest != digest
    save_model(tmp_path / "other", random_model(small_config(), seed=1), small_config())
    assert logit_fingerprint(open_checkpoint(tmp_path / "other")).digest != digest


def test_only_one_block_is_in_memory_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paligemma2.model.gemma2 import GemmaLayer

    held: list[int] = []
    original = GemmaLayer.forward
    layers: list[GemmaLayer] = []
    built = GemmaLayer.__init__

    def watched(self: GemmaLayer, *args: object) -> object:
        held.append(sum(layer.self_attn.q_proj.weight.device.type != "meta" for layer in layers))
        return original(self, *args)  # type: ignore[arg-type]

    def remember(self: GemmaLayer, *args: object) -> None:
        built(self, *args)  # type: ignore[arg-type]
        layers.append(self)

    monkeypatch.setattr(GemmaLayer, "forward", watched)
    monkeypatch.setattr(GemmaLayer, "__init__", remember)
    logit_fingerprint(open_checkpoint(folder))
    assert held == [1, 1, 1, 1]


def test_it_tells_how_far_it_is(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    opened = open_checkpoint(folder)
    logit_fingerprint(opened, on_progress=lambda done, total: calls.append((done, total)))
    total = sum(math.prod(tensor.shape) * 4 for tensor in opened.weights.tensors.values())
    assert calls[-1] == (total, total)
    assert EMBEDDING in opened.weights.tensors


def test_a_digest_of_the_weights_tells_checkpoints_apart_and_not_their_files(tmp_path: Path) -> None:
    one, other = random_model(small_config()), random_model(small_config(), seed=1)
    save_model(tmp_path / "one", one, small_config())
    save_model(tmp_path / "copy", one, small_config(), max_shard_size=20_000)
    save_model(tmp_path / "other", other, small_config())
    digests = [weights_digest(open_checkpoint(tmp_path / name)) for name in ("one", "copy", "other")]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 16
