from pathlib import Path

import pytest
import torch

from paligemma2.errors import ConfigError, InputError
from paligemma2.jobs import bench
from paligemma2.jobs.bench import (
    TEXT_TOKENS,
    BenchConfig,
    Limits,
    best_time,
    floors,
    parameter_counts,
    random_model,
    random_prompts,
    run,
)
from paligemma2.model.config import preset
from paligemma2.types import Decoding
from tests.inference.small_decoding import answers, model_of, token_ids
from tests.small_model import save_small_model


def test_every_figure_is_taken_and_has_its_floor(tmp_path: Path) -> None:
    folder = save_small_model(tmp_path / "model")
    events: list[str] = []
    config = BenchConfig(source=folder, device="cpu", batches=(1, 3), tokens=3, repeats=2)
    report = run(config, events.append)
    names = [figure.name for figure in report.figures]
    assert names == [f"{what}_b{batch}" for batch in (1, 3) for what in ("images", "first_token", "decode")]
    assert all(figure.seconds > 0 and figure.floor > 0 for figure in report.figures)
    assert report.weights == "float32"
    assert report.limits.flops_per_second > 1e9
    assert report.limits.bytes_per_second > 1e8
    parameters = sum(parameter.numel() for parameter in random_parameters(folder))
    assert report.weight_bytes == 4 * parameters
    assert report.peak_bytes > 2**27
    assert events == ["measuring the machine", "measuring 1 at a time", "measuring 3 at a time"]


def random_parameters(folder: Path) -> list[torch.nn.Parameter]:
    from paligemma2.checkpoint.load import load_model

    return list(load_model(folder).model.parameters())


def test_the_floors_of_the_3b_model_are_its_arithmetic_and_its_bytes() -> None:
    config = preset("paligemma2-3b-pt-224")
    counts = parameter_counts(config)
    assert sum(counts.values()) == 3_032_242_416  # the filler rows are read too
    assert counts["embedding"] == 257_216 * 2304
    limits = Limits(flops_per_second=1e12, bytes_per_second=1e11)
    decoder_bytes = 2 * (counts["blocks"] + counts["embedding"])
    one, four = floors(config, 1, limits, decoder_bytes), floors(config, 4, limits, decoder_bytes)
    assert one["images"] == pytest.approx(2 * 256 * counts["vision"] / 1e12)
    assert one["first_token"] == pytest.approx(1.3, rel=0.03)  # 1.30 TFLOP by the performance notes
    assert one["decode"] == pytest.approx(5.23e9 / 1e11, rel=0.01)
    assert four["decode"] == one["decode"]
    assert four["first_token"] == pytest.approx(4 * one["first_token"])


def test_random_models_write_different_tokens() -> None:
    config = model_of(300, seed=0).config
    model = random_model(config)
    inputs = random_prompts(config, 2)
    assert inputs.token_ids.shape == (2, config.num_image_tokens + TEXT_TOKENS)
    assert model.dtype == torch.bfloat16
    first, second = token_ids(answers(model, inputs, Decoding(max_new_tokens=12)))
    assert len(set(first)) > 2
    assert first != second


def test_the_best_time_is_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 5.0, 6.0, 8.0, 10.0, 13.0))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    assert best_time(lambda: None, 3, torch.device("cpu")) == 2.0


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"tokens": 1}, "tokens is 1"), ({"repeats": 0}, "repeats is 0"), ({"batches": (0,)}, "batch is 0")],
)
def test_settings_that_measure_nothing_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        BenchConfig(**settings)  # type: ignore[arg-type]


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(ConfigError, match="no model is named 'paligemma2-4b'"):
        run(BenchConfig(source="paligemma2-4b", is_random=True, device="cpu"))
