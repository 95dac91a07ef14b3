import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from paligemma2.data.sources import DataSource
from paligemma2.data.training_data import DataRules, TrainingBatch, TrainingData, open_training_data
from paligemma2.errors import ConfigError, DataError, InputError
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.processing.tiny_tokenizer import build_tiny_tokenizer
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.types import Clip, Example, Variant
from tests.data.small_data import text_rows, write_rows
from tests.small_model import WORDS, save_picture, small_config
from tests.small_video import save_clip

# On Python 3.12 and later.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
WORKERS = (0, 1, 3)
SKIP = DataRules(faults="skip")


@pytest.fixture(scope="module")
def processor() -> Processor:
    config = small_config()
    return Processor(Tokenizer.from_json(build_tiny_tokenizer(WORDS), config), config)


def examples(folder: Path, count: int, **changes: object) -> tuple[Example, ...]:
    return tuple(
        Example(
            images=(save_picture(folder / f"{number}.png", number, (12, 9)),),
            prefix="what is this ?",
            suffix=str(number),
            id=f"row {number}",
            **changes,  # type: ignore[arg-type]
        )
        for number in range(count)
    )


def data_of(
    processor: Processor, *sources: Sequence[Example], batch_size: int = 4, **changes: object
) -> TrainingData:
    data = TrainingData(sources=sources, processor=processor, batch_size=batch_size, seed=0)
    return replace(data, **changes)  # type: ignore[arg-type]


def learned(processor: Processor, inputs: ModelInputs) -> list[str]:
    """The suffixes of a batch as text; one that is cut has a `…` behind it."""
    assert inputs.loss_weights is not None
    texts = []
    for ids, weights in zip(inputs.token_ids, inputs.loss_weights, strict=True):
        suffix = ids[weights > 0].tolist()
        is_whole = suffix[-1] == processor.tokenizer.eos_id
        texts.append(processor.tokenizer.decode(suffix) + ("" if is_whole else "…"))
    return texts


def same(one: ModelInputs, other: ModelInputs) -> bool:
    return (
        one.ids == other.ids
        and torch.equal(one.token_ids, other.token_ids)
        and torch.equal(one.pixel_values, other.pixel_values)
        and torch.equal(one.image_index, other.image_index)
    )


@pytest.fixture
def mixed(tmp_path: Path, processor: Processor) -> TrainingData:
    """Two sources, several answers, a damaged and a missing picture, texts that are cut."""
    first = examples(tmp_path / "first", 7, answers=("cat", "dog", "what is this", "ocr"))
    second = examples(tmp_path / "second", 5)
    Path(str(first[2].images[0])).write_bytes(b"\x89PNG damaged")
    Path(str(second[1].images[0])).unlink()
    rules = DataRules(faults="skip", text_length=7)
    return data_of(processor, first, second, weights=(2.0, 1.0), rules=rules)


@pytest.mark.parametrize("num_workers", WORKERS)
def test_the_batches_do_not_depend_on_the_workers_nor_on_where_a_run_goes_on(
    mixed: TrainingData, num_workers: int
) -> None:
    expected = [mixed(step) for step in range(12)]
    for start in (0, 5):
        told: list[tuple[int, TrainingBatch]] = []
        made = list(
            mixed.batches(start, 12, num_workers=num_workers, on_batch=lambda *each: told.append(each))  # noqa: B023
        )
        assert len(made) == 12 - start
        assert all(same(one, other.inputs) for one, other in zip(made, expected[start:], strict=True))
        assert [step for step, _ in told] == list(range(start, 12))
        assert [(batch.skipped, batch.num_cut) for _, batch in told] == [
            (batch.skipped, batch.num_cut) for batch in expected[start:]
        ]
    assert sum(len(batch.skipped) for batch in expected) > 3
    assert sum(batch.num_cut for batch in expected) > 3


def test_each_epoch_asks_about_another_thing(tmp_path: Path, processor: Processor) -> None:
    variants = tuple(Variant(prefixes=(f"{name} ?",), answers=(name,)) for name in ("cat", "dog", "ocr"))
    data = data_of(processor, examples(tmp_path, 2, variants=variants))
    asked = [data.example(place) for place in range(6)]
    assert all(example.prefix == f"{example.suffix} ?" for example in asked)
    for name in ("row 0", "row 1"):
        assert {each.suffix for each in asked if each.id == name} == {"cat", "dog", "ocr"}
    first = [{"cat", "dog", "ocr"} & set(text.split()) for text in learned(processor, data.batch(0))]
    assert all(len(words) == 1 for words in first)


def test_a_batch_is_told_before_it_is_given_out(mixed: TrainingData) -> None:
    told: list[int] = []
    batches = mixed.batches(3, 9, num_workers=1, on_batch=lambda step, batch: told.append(step))
    next(batches)
    assert told == [3]


def test_every_example_comes_once_per_epoch_with_its_own_picture(
    tmp_path: Path, processor: Processor
) -> None:
    rows = examples(tmp_path, 6)
    data = data_of(processor, rows, batch_size=4)
    places = [(data(step).inputs, at) for step in range(3) for at in range(4)]
    for epoch in (places[:6], places[6:]):
        assert sorted(inputs.ids[at] for inputs, at in epoch) == [row.id for row in rows]
    pixels = {row.id: processor.pixels(row.images[0]) for row in rows}
    for inputs, at in places:
        (row,) = inputs.pictures(processor.config)[at].unique().tolist()
        assert torch.equal(inputs.pixel_values[row], torch.from_numpy(pixels[inputs.ids[at]]))


def test_answers_cycle_over_epochs(tmp_path: Path, processor: Processor) -> None:
    words = ("cat", "dog", "ocr")
    data = data_of(processor, examples(tmp_path, 4, answers=words))
    by_id: dict[str, list[str]] = {}
    for step in range(6):  # one epoch each
        inputs = data.batch(step)
        for name, text in zip(inputs.ids, learned(processor, inputs), strict=True):
            by_id.setdefault(name, []).append(text)
    for texts in by_id.values():
        assert sorted(texts[:3]) == sorted(texts[3:]) == sorted(words)
    assert len({tuple(texts) for texts in by_id.values()}) > 1


def test_answers_may_be_drawn_anew_each_time(tmp_path: Path, processor: Processor) -> None:
    words = ("cat", "dog", "ocr")
    data = data_of(processor, examples(tmp_path, 4, answers=words), rules=DataRules(answers="choice"))
    drawn = [data.example(place).suffix for place in range(1200)]
    assert all(340 < count < 460 for count in Counter(drawn).values())


def test_sources_are_mixed_by_weight_and_have_epochs_of_their_own(
    tmp_path: Path, processor: Processor
) -> None:
    small, large = examples(tmp_path / "small", 3), examples(tmp_path / "large", 9)
    large = tuple(replace(example, id=f"large {example.id}") for example in large)
    data = data_of(processor, small, large, weights=(1.0, 2.0))
    assert data.num_examples == 12
    ids = [data.example(place).id for place in range(30_000)]
    of_small = [name for name in ids if not name.startswith("large")]
    assert len(of_small) == pytest.approx(10_000, abs=3)
    for start in range(0, 30, 3):
        assert len(set(of_small[start : start + 3])) == 3


@pytest.mark.parametrize("name", ["jsonl", "tar"])
def test_tars_and_folders_give_the_same_batches(tmp_path: Path, processor: Processor, name: str) -> None:
    rows = text_rows(tmp_path / "pictures", [("what is this ?", str(number)) for number in range(18)])
    rows = [replace(row, answers=("cat", "dog") if number % 2 else ()) for number, row in enumerate(rows)]
    write_rows(name, tmp_path / name, rows)
    data = open_training_data([DataSource(path=tmp_path / name)], processor, batch_size=5, seed=1)
    files = [
        replace(example, images=row.images, prefix=row.prefix, suffix=row.suffix, answers=row.answers)
        for example, row in zip(data.sources[0], rows[::3], strict=True)
    ]
    assert {example.answers for example in files} == {(), ("cat", "dog")}
    reference = data_of(processor, files, batch_size=5, seed=1)
    for step in range(4):
        assert same(data.batch(step), reference.batch(step))


def test_many_shards_are_read_in_place(tmp_path: Path, processor: Processor) -> None:
    rows = text_rows(tmp_path / "pictures", [("what is this ?", str(number)) for number in range(18)])
    train = [row for row in rows if row.split == "train"]
    write_rows("tar", tmp_path / "one", train)
    for number, row in enumerate(train):
        write_rows("tar", tmp_path / "each" / str(number), [row])
        shard = tmp_path / "each" / str(number) / "train-000000.tar"
        shard.rename(tmp_path / "each" / f"train-{number:06d}.tar")
    one, each = (
        open_training_data([DataSource(path=tmp_path / name)], processor, batch_size=4, seed=0)
        for name in ("one", "each")
    )
    assert len(each.sources[0]) == 6
    for inputs, step in zip(each.batches(0, 5, num_workers=1), range(5), strict=True):
        assert same(inputs, one.batch(step))


def test_a_damaged_picture_is_an_error_that_names_its_example(tmp_path: Path, processor: Processor) -> None:
    rows = examples(tmp_path, 4)
    Path(str(rows[2].images[0])).write_bytes(b"")
    with pytest.raises(DataError, match=r"example 'row 2' cannot be used: .*2\.png") as caught:
        data_of(processor, rows)(0)
    assert "--faults skip" in caught.value.hint
    with pytest.raises(DataError, match="row 2"):
        list(data_of(processor, rows).batches(0, 3, num_workers=1))


def test_another_example_of_the_source_stands_for_a_damaged_one(tmp_path: Path, processor: Processor) -> None:
    rows, others = examples(tmp_path / "a", 8), examples(tmp_path / "b", 8)
    others = tuple(replace(example, id=f"other {example.id}") for example in others)
    Path(str(rows[2].images[0])).write_bytes(b"")
    sound = data_of(processor, rows, others, weights=(1.0, 1.0), rules=SKIP)
    stands_in = set()
    for step in range(20):
        batch = sound(step)
        wanted = [sound.example(4 * step + at).id for at in range(4)]
        for name, found in zip(wanted, batch.inputs.ids, strict=True):
            assert (found == name) == (name != "row 2")
            assert not found.startswith("other") or name.startswith("other")
            if name == "row 2":
                stands_in.add(found)
        assert all(reason.startswith("row 2: ") for reason in batch.skipped)
    assert len(stands_in) > 2


def test_a_source_of_damaged_pictures_alone_ends_the_run(tmp_path: Path, processor: Processor) -> None:
    rows = examples(tmp_path, 3)
    for row in rows:
        Path(str(row.images[0])).unlink()
    with pytest.raises(DataError, match="100 examples, one after the other, cannot be used"):
        data_of(processor, rows, rules=SKIP)(0)


def test_a_long_text_is_cut_from_the_end_and_counted(tmp_path: Path, processor: Processor) -> None:
    """One token more than the length is kept, as big_vision has it: the last is predicted only."""
    (row,) = examples(tmp_path, 1)
    row = replace(row, prefix="cat", suffix="dog cat ?")
    whole = processor.suffix_ids("dog cat ?")
    prompt = len(processor.prompt_ids("cat", 1)) - processor.config.num_image_tokens
    for text_length, kept in ((prompt + len(whole) - 1, len(whole)), (prompt + 1, 2), (prompt, 1)):
        batch = data_of(processor, [row], batch_size=1, rules=DataRules(text_length=text_length))(0)
        assert batch.inputs.loss_weights is not None
        ids = batch.inputs.token_ids[batch.inputs.loss_weights > 0].tolist()
        assert ids == whole[:kept]
        assert batch.num_cut == (kept < len(whole))


def test_a_long_text_may_be_a_fault(tmp_path: Path, processor: Processor) -> None:
    short, long = examples(tmp_path, 2)
    long = replace(long, suffix="dog " * 20)
    rules = DataRules(text_length=12, long_text="fault")
    with pytest.raises(DataError, match="example 'row 1' cannot be used: the text is longer than 12 tokens"):
        data_of(processor, [short, long], rules=rules)(0)
    batch = data_of(processor, [short, long], rules=replace(rules, faults="skip"))(0)
    assert set(batch.inputs.ids) == {"row 0"}
    assert batch.num_cut == 0


def test_a_prompt_that_leaves_nothing_of_the_suffix_is_a_fault(tmp_path: Path, processor: Processor) -> None:
    (row,) = examples(tmp_path, 1)
    with pytest.raises(DataError, match=r"the prompt has \d+ tokens of text, of 3 with the suffix"):
        data_of(processor, [row], batch_size=1, rules=DataRules(text_length=2))(0)


def test_what_does_not_fit_the_context_is_a_fault(tmp_path: Path, processor: Processor) -> None:
    (row,) = examples(tmp_path, 1)
    with pytest.raises(DataError, match="the model's context is 512"):
        data_of(processor, [replace(row, suffix="dog " * 600)], batch_size=1)(0)


def test_a_picture_about_which_a_batch_asks_twice_is_read_once(tmp_path: Path, processor: Processor) -> None:
    (row,) = examples(tmp_path, 1)
    batch = data_of(processor, [row, replace(row, prefix="ocr", images=(Path(str(row.images[0])),))])(0)
    assert len(batch.inputs.ids) == 4
    assert len(batch.inputs.pixel_values) == 1


def test_pictures_in_memory_and_videos_can_be_trained_on(tmp_path: Path, processor: Processor) -> None:
    pixels = [np.full((9, 12, 3), value, dtype=np.uint8) for value in (0, 255)]
    clip = Clip(save_clip(tmp_path / "clip.mp4"), num_frames=3)
    rows = [Example(images=(each,), suffix="cat", id=str(n)) for n, each in enumerate((*pixels, clip))]
    inputs = data_of(processor, rows, batch_size=3).batch(0)
    shown = dict(zip(inputs.ids, inputs.pictures(processor.config), strict=True))
    assert {name: len(pictures) for name, pictures in shown.items()} == {"0": 1, "1": 1, "2": 3}
    assert [inputs.pixel_values[shown[name]].unique().tolist() for name in "01"] == [[-1], [1]]


def test_processes_that_train_together_share_the_batches_of_one(tmp_path: Path, processor: Processor) -> None:
    rows = examples(tmp_path, 9)
    whole, half = data_of(processor, rows, batch_size=4), data_of(processor, rows, batch_size=2)
    told: list[int] = []
    parts = [
        list(half.batches(1, 5, process=each, processes=2, on_batch=lambda step, batch: told.append(step)))
        for each in range(2)
    ]
    for step, first, second in zip(range(1, 5), *parts, strict=True):
        assert whole.batch(step).ids == first.ids + second.ids
    assert told == [1, 2, 3, 4] * 2


def write_lines(folder: Path, count: int, name: str = "train.jsonl", text: str = "cat") -> Path:
    save_picture(folder / "a.png")
    lines = [json.dumps({"image": "a.png", "prefix": "what", "suffix": text})] * count
    (folder / name).write_text("\n".join(lines))
    return folder


def test_several_sources_are_opened_as_a_mixture(tmp_path: Path, processor: Processor) -> None:
    one, other = write_lines(tmp_path / "one", 3), write_lines(tmp_path / "other", 4, text="dog")
    write_lines(one, 2, "valid.jsonl")
    write_lines(other, 1, "test.jsonl", "dog")
    sources = [DataSource(path=one, weight=3.0), DataSource(path=other)]
    data = open_training_data(sources, processor, batch_size=2, seed=0)
    assert data.num_examples == 7
    assert [example.suffix for example in data.held_out] == ["cat", "cat", "dog"]
    texts = Counter(data.example(place).suffix for place in range(10_000))
    assert texts == {"cat": 7500, "dog": 2500}


def test_what_was_left_out_is_told_of_all_sources(tmp_path: Path, processor: Processor) -> None:
    sources = [DataSource(path=write_lines(tmp_path / name, 2)) for name in ("one", "other")]
    for source in sources:
        with (source.path / "train.jsonl").open("a") as file:
            file.write('\n{"image": "gone.png", "suffix": "x"}')
    with pytest.raises(DataError, match="cannot be used"):
        open_training_data(sources, processor, batch_size=2, seed=0)
    data = open_training_data(sources, processor, batch_size=2, seed=0, rules=SKIP)
    assert data.problems.skipped == {"the picture is missing": 2}
    assert len(data.problems.problems) == 2


def test_the_fingerprint_tells_what_decides_and_nothing_else(tmp_path: Path, processor: Processor) -> None:
    one, other = (DataSource(path=write_lines(tmp_path / name, 2)) for name in ("one", "other"))

    def print_of(*sources: DataSource, rules: DataRules | None = None) -> str:
        return open_training_data(sources, processor, batch_size=2, seed=0, rules=rules).fingerprint

    different = [
        print_of(one),
        print_of(one, other),
        print_of(one, replace(other, weight=2.0)),
        print_of(one, rules=DataRules(text_length=9)),
        print_of(one, rules=DataRules(answers="choice")),
    ]
    assert len(set(different)) == 5
    assert print_of(replace(one, weight=2.0)) == print_of(one) == print_of(one, rules=SKIP)


def test_there_must_be_a_source_and_weights_that_can_be_had(tmp_path: Path, processor: Processor) -> None:
    with pytest.raises(InputError, match="no data to train on"):
        open_training_data([], processor, batch_size=2, seed=0)
    sources = [DataSource(path=write_lines(tmp_path, 2), weight=weight) for weight in (1.0, 1e-9)]
    with pytest.raises(ConfigError, match="hardly ever come"):
        open_training_data(sources, processor, batch_size=2, seed=0)


@pytest.mark.parametrize(
    "bad", [{"answers": "first"}, {"faults": "ignore"}, {"long_text": "drop"}, {"text_length": 0}]
)
def test_rules_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        DataRules(**bad)  # type: ignore[arg-type]


def test_pictures_are_decoded_in_the_workers(
    tmp_path: Path, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, decode = os.getpid(), processor.pixels

    def elsewhere(image: object) -> object:
        assert os.getpid() != here
        return decode(image)  # type: ignore[arg-type]

    monkeypatch.setattr(processor, "pixels", elsewhere)
    data = data_of(processor, examples(tmp_path, 4))
    assert len(list(data.batches(0, 2, num_workers=1))) == 2
    with pytest.raises(AssertionError):
        data.batch(0)
