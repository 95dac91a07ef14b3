"""Transfers of two processes that share the model, beside the same ones of one process."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from paligemma2.configuration import with_settings
from paligemma2.data.training_data import open_training_data
from paligemma2.errors import InputError, Interrupted, PaliGemmaError
from paligemma2.inference.loading import load
from paligemma2.jobs import transfer
from paligemma2.jobs.transfer_config import TransferConfig
from paligemma2.jobs.transfer_evaluation import Evaluation
from paligemma2.jobs.transfer_model import prepared_model, shared_trainee, shares
from paligemma2.training.run_log import EVALUATIONS, PROGRESS, read_log
from paligemma2.training.team import ALONE
from paligemma2.types import Generation
from tests.several_processes import in_processes
from tests.small_transfer import quiet, small_transfer, stop_at

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="the processes would want a GPU each"),
]
BASE = ["training.batch_size=2", "training.steps=6", "training.log_every=1", "training.precision=float32"]
CASES = {
    "everything": ["evaluation.every=3"],
    "adapter": ["lora.rank=4", "training.learning_rate=1e-2", "evaluation.every=2"],
    "adapter of all parts": ["lora.rank=2", "lora.parts=decoder,image", "training.learning_rate=1e-2"],
    "frozen tower": ["training.freeze=vision_tower", "training.average_decay=0.9", "training.average=token"],
    "parts": ["training.batch_size=4", "training.micro_batch_size=1", "training.packed_length=40"],
    "workers": ["num_workers=1", "training.recomputation=full"],
    "damaged picture": ["rules.faults=skip", "rules.text_length=7"],
}
REFUSED = {
    "batch": (["training.batch_size=3"], "2 processes cannot have equal shares of a batch of 3 examples"),
    "bits": (["lora.rank=2", "quantize=int8"], "quantize is for a model that is not sharded"),
    "cache": (["training.freeze=image", "image_cache_gb=1"], "image_cache_gb is for a model that is not"),
    "muon": (["training.optimizer=muon"], "training.optimizer=muon is for a model that is not sharded"),
    "8 bits": (["training.optimizer=adamw_8bit"], "training.optimizer=adamw_8bit is for a model"),
}
EXACT = 1e-6
"""Relative, of losses. Sums over examples are added up in another order: some units in the last place."""
COUNTED = ("step", "not_finite", "skipped", "skipped_examples", "cut_suffixes")
NEAR = 1e-4
"""Of weights, which move by 10 to 60 times as much. Adam divides a gradient by its own size: where it is next
to nothing, its last places decide."""


def config_of(folder: Path, who: str, case: str, *settings: str) -> TransferConfig:
    """The transfer of a case by one process or by two, with a model and data that are there already."""
    data = folder / ("damaged" if case in ("damaged picture", "failing") else "data")
    config = TransferConfig(model=str(folder / "small"), data=data, output=folder / who / case)
    common = [*BASE, "evaluation.max_new_tokens=6", "num_workers=0", f"sharded={str(who == 'two').lower()}"]
    return with_settings(config, [*common, *CASES.get(case, ()), *settings])


def recorded(config: TransferConfig) -> dict[str, Any]:
    """A run and all that it tells."""
    steps: list[int] = []
    evaluations: list[Evaluation] = []
    report = transfer.run(
        config, lambda name, progress: steps.append(progress.step), on_evaluation=evaluations.append
    )
    answers = [(sample.before, sample.after) for sample in report.samples]
    return {"steps": steps, "evaluations": [asdict(each) for each in evaluations], "answers": answers}


def refusal(config: TransferConfig) -> tuple[str, str]:
    try:
        transfer.run(config, quiet)
    except PaliGemmaError as error:
        return type(error).__name__, error.message
    return "", ""


def stopped(config: TransferConfig) -> str:
    with pytest.raises(Interrupted) as caught:
        transfer.run(config, stop_at(4))
    return caught.value.message


def asked_twice(config: TransferConfig) -> list[Generation]:
    """The answer of a model before and after its projector is changed, a part of it in each process."""
    trainee = shared_trainee(config)
    predictor = trainee.predictor

    def ask() -> Generation:
        return predictor.generate(config.sources[0].path / "valid0.png", "what is this ?", 4)[0]

    answers = [trainee.together(ask)]
    with torch.no_grad():
        for parameter in predictor.model.multi_modal_projector.parameters():
            parameter.mul_(-3.0)
    return [*answers, trainee.together(ask)]


def work_in_two(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {case: recorded(config_of(folder, "two", case)) for case in CASES}
    for name, (settings, _) in REFUSED.items():
        results[f"refused {name}"] = refusal(config_of(folder, "two", "refused", *settings))
    results["failing"] = refusal(config_of(folder, "two", "failing"))
    results["stopped"] = stopped(config_of(folder, "two", "stopped", "training.steps=9"))
    gone_on = replace(config_of(folder, "two", "", "training.steps=9"), output=folder / "one" / "stopped")
    results["gone on"] = recorded(gone_on)
    results["asked"] = asked_twice(config_of(folder, "two", "asked"))
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfers")
    small_transfer(folder)
    shutil.copytree(folder / "data", folder / "damaged")
    (folder / "damaged" / "train2.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def pair(folder: Path) -> list[dict[str, Any]]:
    stopped(config_of(folder, "one", "stopped", "training.steps=9"))
    return in_processes(work_in_two, 2, folder / "processes", folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return dict(load_file(file))


def assert_near(ours: Path, theirs: Path) -> None:
    ours_, theirs_ = weights(ours), weights(theirs)
    assert ours_.keys() == theirs_.keys()
    for name, tensor in ours_.items():
        if "k_proj.bias" not in name:  # the softmax cancels it, so that its gradient is rounding alone
            torch.testing.assert_close(tensor, theirs_[name], rtol=NEAR, atol=NEAR, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_what_one_does(pair: list[dict[str, Any]], folder: Path, case: str) -> None:
    alone = recorded(config_of(folder, "one", case))
    ours, theirs = (folder / who / case for who in ("two", "one"))
    assert pair[0][case]["answers"] == pair[1][case]["answers"] == alone["answers"]
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    assert_near(ours, theirs)
    run, run_alone = (path.with_name(f"{case}.run") for path in (ours, theirs))
    assert {path.name for path in run.iterdir()} == {path.name for path in run_alone.iterdir()}
    for name, numbers in ((PROGRESS, COUNTED), (EVALUATIONS, ("step", "score"))):
        lines, lines_alone = read_log(run, name), read_log(run_alone, name)
        losses, losses_alone = ([line["loss"] for line in each] for each in (lines, lines_alone))
        assert losses == pytest.approx(losses_alone, rel=EXACT)
        for line, line_alone in zip(lines, lines_alone, strict=True):
            assert [line[each] for each in numbers] == [line_alone[each] for each in numbers]


def test_the_cases_show_what_they_are_for(pair: list[dict[str, Any]], folder: Path) -> None:
    """Weights move far more than the tolerance, answers change, and examples are skipped and cut."""
    before, after = weights(folder / "small"), weights(folder / "two" / "everything")
    moved = [(before[name] - after[name]).abs().max() for name in before if "k_proj.bias" not in name]
    assert min(moved) > 10 * NEAR
    adapted = weights(folder / "two" / "adapter of all parts")
    assert any("vision_tower" in name for name in adapted)
    assert all(tensor.any() for tensor in adapted.values())
    assert any(start != end for start, end in pair[0]["adapter"]["answers"])
    last = read_log(folder / "two" / "damaged picture.run")[-1]
    assert last["skipped_examples"] > 0
    assert last["cut_suffixes"] == 12


def test_only_the_first_process_speaks(pair: list[dict[str, Any]]) -> None:
    told = pair[0]["everything"]
    assert told["steps"] == [1, 2, 3, 4, 5, 6]
    assert [each["step"] for each in told["evaluations"]] == [3, 6]
    assert (pair[1]["everything"]["steps"], pair[1]["everything"]["evaluations"]) == ([], [])


def test_the_result_is_an_ordinary_model_and_an_ordinary_adapter(
    pair: list[dict[str, Any]], folder: Path
) -> None:
    small, two = folder / "small", folder / "two"
    for case, model in (
        ("everything", load(two / "everything", device="cpu", dtype="float32")),
        ("adapter of all parts", load(small, adapter=two / "adapter of all parts", device="cpu")),
    ):
        for number, (_, after) in enumerate(pair[0][case]["answers"]):
            (answer,) = model.generate(folder / "data" / f"valid{number}.png", "what is this ?", 6)
            assert answer.text == after


def test_one_process_goes_on_with_what_two_began(pair: list[dict[str, Any]], folder: Path) -> None:
    assert [each["stopped"].split(",")[0] for each in pair] == ["stopped at step 4 of 9"] * 2
    goes_on = replace(config_of(folder, "one", "", "training.steps=9"), output=folder / "two" / "stopped")
    assert recorded(goes_on)["steps"] == [5, 6, 7, 8, 9]
    recorded(config_of(folder, "one", "whole", "training.steps=9"))
    assert_near(folder / "two" / "stopped", folder / "one" / "whole")


def test_two_processes_go_on_with_what_one_began(pair: list[dict[str, Any]], folder: Path) -> None:
    assert pair[0]["gone on"]["steps"] == [5, 6, 7, 8, 9]
    recorded(config_of(folder, "one", "straight", "training.steps=9"))
    assert_near(folder / "one" / "stopped", folder / "one" / "straight")


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_shared_model_cannot_have_is_refused(pair: list[dict[str, Any]], name: str) -> None:
    for each in pair:
        kind, message = each[f"refused {name}"]
        assert kind == "ConfigError"
        assert message.startswith(REFUSED[name][1])


def test_a_picture_that_one_process_cannot_read_ends_all(pair: list[dict[str, Any]], folder: Path) -> None:
    kinds = {each["failing"][0]: each["failing"][1] for each in pair}
    assert set(kinds) == {"DataError", "WorkError"}
    assert "cannot be used" in kinds["DataError"]
    assert "failed: example" in kinds["WorkError"]
    assert not (folder / "two" / "failing").exists()


def test_a_picture_is_encoded_anew_after_weights_have_changed(
    pair: list[dict[str, Any]], folder: Path
) -> None:
    """Of a part that is together all the time: nothing else tells that it has changed."""
    predictor = load(folder / "small", device="cpu", dtype="float32", for_training=True)
    picture = folder / "data" / "valid0.png"
    expected = predictor.generate(picture, "what is this ?", 4)
    with torch.no_grad():
        for parameter in predictor.model.multi_modal_projector.parameters():
            parameter.mul_(-3.0)
    expected += predictor.generate(picture, "what is this ?", 4)
    assert expected[0].log_probs != pytest.approx(expected[1].log_probs, abs=1e-2)
    for ours, theirs in zip(pair[0]["asked"], expected, strict=True):
        assert ours.token_ids == theirs.token_ids
        assert ours.log_probs == pytest.approx(theirs.log_probs, abs=1e-4)


def test_a_process_alone_is_told_to_start_others(folder: Path) -> None:
    with pytest.raises(InputError, match="a sharded transfer needs several processes"):
        transfer.run(config_of(folder, "two", "alone"), quiet)


def test_shares_of_one_process_are_whole_batches(folder: Path) -> None:
    config = config_of(folder, "one", "counted", "rules.faults=skip")
    config = replace(config, data=folder / "damaged")
    predictor = prepared_model(config)
    data = open_training_data(config.sources, predictor.processor, batch_size=3, seed=0, rules=config.rules)
    told: list[tuple[int, int]] = []
    made = list(shares(data, ALONE, 2, 4, num_workers=0, on_batch=lambda *counts: told.append(counts)))
    for inputs, step in zip(made, (2, 3), strict=True):
        assert torch.equal(inputs.token_ids, data.batch(step).token_ids)
    assert told == [(len(data(step).skipped), data(step).num_cut) for step in (2, 3)]
    assert sum(skipped for skipped, _ in told) > 0
