import psutil
import pytest
import torch

from paligemma2.errors import InputError
from paligemma2.inference.loading import load
from paligemma2.jobs import predict_memory
from paligemma2.jobs.predict_memory import available_memory, note_memory
from paligemma2.model.memory import inference_memory
from paligemma2.types import Decoding
from tests.small_model import save_small_model

GREEDY = Decoding()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(save_small_model(tmp_path_factory.mktemp("small") / "model"))


@pytest.fixture
def notes(caplog, monkeypatch):
    """What is said, with so much memory, of some batches of the question "cat"."""

    def said(model, batches, available, decoding=GREEDY):
        monkeypatch.setattr(predict_memory, "available_memory", lambda device: available)
        caplog.clear()
        note_memory(model, batches, "cat", 5, decoding)
        return [record.getMessage() for record in caplog.records]

    return said


def needed(model, **settings):
    """Stated for answers of five tokens to "cat"."""
    ids = model.processor.prompt_ids("cat", 2)
    return inference_memory(
        model.config,
        images=3,
        prompt_tokens=len(ids),
        max_new_tokens=5,
        dtype=torch.float32,
        weights=0,
        **settings,
    ).total


def test_a_note_says_that_the_largest_batch_does_not_fit(model, notes):
    enough = needed(model, batch=2, is_padded=True)
    batches = [[1], [2, 1], [1, 1]]
    assert notes(model, batches, enough) == []
    (note,) = notes(model, batches, enough - 1)
    assert "GB are needed" in note
    assert "batch size" in note


@pytest.mark.parametrize("decoding", [Decoding(method="beam", beams=4), Decoding(method="sample", best_of=4)])
def test_each_beam_and_each_sample_takes_a_row(model, notes, decoding):
    enough = needed(model, batch=8, is_padded=True)
    assert notes(model, [[2, 1]], enough, decoding) == []
    assert len(notes(model, [[2, 1]], enough - 1, decoding)) == 1


def test_nothing_is_said_where_the_memory_is_not_known(model, notes):
    assert notes(model, [[1]], None) == []
    assert available_memory(torch.device("meta")) is None


def test_a_prompt_that_is_too_long_is_refused(model):
    with pytest.raises(InputError, match="the model's context is"):
        note_memory(model, [[1]], "x" * 1000, 5, GREEDY)


def test_what_is_available_is_what_the_system_says():
    available = available_memory(torch.device("cpu"))
    assert available == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.gpu
def test_what_is_reserved_on_a_gpu_and_not_used_is_available():
    device = torch.device("cuda")
    before = available_memory(device)
    held = torch.empty(2**28, dtype=torch.uint8, device=device)
    assert available_memory(device) == pytest.approx(before - 2**28, abs=2**26)
    del held
    assert available_memory(device) == pytest.approx(before, abs=2**26)
