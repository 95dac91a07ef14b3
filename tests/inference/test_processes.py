import os

import pytest
import torch
import torch.distributed as dist

from paligemma2.errors import InputError
from paligemma2.inference.loading import load
from paligemma2.inference.processes import join_processes
from paligemma2.types import Decoding
from tests.several_processes import in_processes

DECODINGS = (
    Decoding(max_new_tokens=6),
    Decoding(max_new_tokens=6, method="sample", seed=3, top_p=0.9),
    Decoding(max_new_tokens=6, method="beam", beams=3),
)
ALONE = "tensor_parallel needs several processes"


def answers_of(model, pictures):
    prompts = ["caption en", "answer en what is this ?"]
    return [model.generate(pictures, prompts, decoding=each) for each in DECODINGS]


def work(folder, pictures):
    """Answers and scores of a shared model; then what is refused once there are processes."""
    model = load(folder, device="cpu", tensor_parallel=True)
    scores = model.score(pictures[0], "caption en", ["cat", "dog cat"])
    with pytest.raises(InputError, match="device 'mps' cannot be shared") as raised:
        load(folder, device="mps", tensor_parallel=True)
    assert "auto, cuda or cpu" in raised.value.hint
    return {
        "answers": answers_of(model, pictures),
        "scores": scores,
        "heads": model.model.language_model.config.num_kv_heads,
        "half": load(folder, device="cpu", dtype="bfloat16", tensor_parallel=True).generate(
            pictures[0], "", 3
        ),
    }


@pytest.fixture(scope="module")
def shared(folder, pictures, tmp_path_factory):
    pair = [str(picture) for picture in pictures[:2]]
    return in_processes(work, 2, tmp_path_factory.mktemp("two") / "processes", folder, pair)


def test_a_shared_model_writes_and_scores_as_one_that_is_whole(shared, folder, pictures):
    model = load(folder, device="cpu")
    for result in shared:
        for mine, whole in zip(result["answers"], answers_of(model, pictures[:2]), strict=True):
            assert [each.token_ids for each in mine] == [each.token_ids for each in whole]
        for mine, whole in zip(
            result["scores"], model.score(pictures[0], "caption en", ["cat", "dog cat"]), strict=True
        ):
            assert mine.log_probs == pytest.approx(whole.log_probs, abs=1e-5)


def test_the_processes_agree_to_the_last_bit(shared):
    assert shared[0] == shared[1]
    assert shared[0]["heads"] == 1


def test_a_process_alone_is_told_how_to_start_several(folder):
    with pytest.raises(InputError, match=ALONE) as raised:
        load(folder, tensor_parallel=True)
    assert "torchrun --nproc-per-node 2" in raised.value.hint


def test_processes_are_joined_as_torchrun_names_them(monkeypatch, tmp_path):
    """One process is the smallest number that `torchrun` starts."""
    assert "RANK" not in os.environ
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    try:
        mesh, device = join_processes("cpu")
        assert mesh.size() == 1
        assert device == torch.device("cpu")
        assert dist.get_backend() == "gloo"
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU for the process")
def test_a_process_without_a_gpu_is_refused(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match="process 1 of this machine has no GPU of its own: there are 0"
    ) as raised:
        join_processes("cuda")
    assert raised.value.hint == "use device cpu"
