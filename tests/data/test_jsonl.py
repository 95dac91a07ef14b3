import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paligemma2.data.jsonl import ExampleBatches, fingerprint, read_split
from paligemma2.errors import DataError
from paligemma2.types import Example


def line(image: object = "a.png", prefix: object = "ask", suffix: object = "answer") -> str:
    return json.dumps({"image": image, "prefix": prefix, "suffix": suffix})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"picture")
    return tmp_path


def write(folder: Path, *lines: str, name: str = "_annotations.train.jsonl") -> None:
    (folder / name).write_text("\n".join(lines), encoding="utf-8")


def test_examples_come_in_the_order_of_the_file_with_the_line_they_are_from(folder: Path) -> None:
    write(folder, line(), "", line(["a.png", "b.png"], suffix="two"))
    first, second = read_split(folder, "train")
    assert first == Example(
        images=(folder / "a.png",), prefix="ask", suffix="answer", id="_annotations.train:1"
    )
    assert second.images == (folder / "a.png", folder / "b.png")
    assert second.id == "_annotations.train:3"


def test_a_prefix_may_be_absent_or_empty(folder: Path) -> None:
    write(folder, line(prefix=""), json.dumps({"image": "a.png", "suffix": "s"}))
    assert [example.prefix for example in read_split(folder, "train")] == ["", ""]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line("c.png"), r"line 2: picture c.png is missing"),
        (line(["a.png", "c.png"]), r"line 2: picture c.png is missing"),
        ('{"image": ', r"line 2: not JSON"),
        ("[" * 100_000, r"line 2: not JSON: nested too deep"),
        ("[1]", r"line 2: not a JSON object"),
        (line(suffix=""), r"line 2: .*suffix not empty"),
        (line(suffix="  "), r"line 2: .*suffix not empty"),
        (line(suffix=None), r"line 2: .*suffix None"),
        (line(suffix=3), r"line 2: .*suffix 3"),
        (line(prefix=None), r"line 2: prefix None"),
        (line(image=None), r"line 2: image is None"),
        (line(image=[]), r"line 2: image is \[\]"),
        (line(image=[1]), r"line 2: image is \[1\]"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_by_its_number(folder: Path, bad: str, message: str) -> None:
    write(folder, line(), bad, line())
    with pytest.raises(DataError, match=f"1 of 3 lines cannot be used .*{message}"):
        read_split(folder, "train")


def test_of_many_bad_lines_all_are_counted_and_the_first_named(folder: Path) -> None:
    write(folder, *["{"] * 7)
    with pytest.raises(DataError, match="7 of 7 lines") as caught:
        read_split(folder, "train")
    assert "line 3" in caught.value.message
    assert "line 4" not in caught.value.message


def test_marks_and_line_ends_of_windows_do_no_harm(folder: Path) -> None:
    text = "\ufeff" + line() + "\r\n" + line(suffix="two") + "\r\n"
    (folder / "train.jsonl").write_bytes(text.encode())
    assert [example.suffix for example in read_split(folder, "train")] == ["answer", "two"]


def test_only_line_ends_end_a_line(folder: Path) -> None:
    write(folder, json.dumps({"image": "a.png", "suffix": "one\u2028line\u0085here"}, ensure_ascii=False))
    (example,) = read_split(folder, "train")
    assert example.suffix == "one\u2028line\u0085here"


def test_a_file_that_is_not_utf8_is_refused(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(line(suffix="x").encode().replace(b'"x"', b'"\xe9"'))
    with pytest.raises(DataError, match=r"train\.jsonl: cannot be read as UTF-8"):
        read_split(folder, "train")


def test_a_file_without_examples_is_refused(folder: Path) -> None:
    write(folder, "", "")
    with pytest.raises(DataError, match="no examples"):
        read_split(folder, "train")


def test_an_absent_file_or_folder_is_told_with_the_names_that_would_do(folder: Path) -> None:
    with pytest.raises(DataError, match="no held-out examples") as caught:
        read_split(folder, "held-out")
    assert "_annotations.valid.jsonl" in caught.value.hint
    with pytest.raises(DataError, match="not a folder"):
        read_split(folder / "nowhere", "train")


@pytest.mark.parametrize(
    "name", ["_annotations.valid.jsonl", "valid.jsonl", "validation.jsonl", "val.jsonl", "test.jsonl"]
)
def test_the_held_out_file_may_have_any_of_the_usual_names(folder: Path, name: str) -> None:
    write(folder, line(), name=name)
    assert len(read_split(folder, "held-out")) == 1


def test_the_validation_file_goes_before_the_test_file(folder: Path) -> None:
    write(folder, line(suffix="test"), name="_annotations.test.jsonl")
    write(folder, line(suffix="valid"), name="_annotations.valid.jsonl")
    assert read_split(folder, "held-out")[0].suffix == "valid"


def test_a_dataset_folder_inside_is_found(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "a.png").write_bytes(b"picture")
    write(tmp_path / "dataset", line())
    assert read_split(tmp_path, "train")[0].images == (tmp_path / "dataset" / "a.png",)


def test_the_fingerprint_changes_with_text_picture_and_order(folder: Path) -> None:
    write(folder, line(), line("b.png", suffix="two"))
    examples = read_split(folder, "train")
    prints = {fingerprint(examples), fingerprint(examples[::-1]), fingerprint(examples[:1])}
    (folder / "a.png").write_bytes(b"another picture")
    prints.add(fingerprint(examples))
    assert len(prints) == 4
    assert fingerprint(read_split(folder, "train")) == fingerprint(examples)


def batches(count: int, batch_size: int, seed: int) -> ExampleBatches:
    examples = tuple(Example(images=(), suffix=str(i)) for i in range(count))
    return ExampleBatches(examples=examples, processor=cast(Any, None), batch_size=batch_size, seed=seed)


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 5), st.integers(1, 4))
def test_every_example_comes_once_per_epoch(count: int, batch_size: int, seed: int, epochs: int) -> None:
    make = batches(count, batch_size, seed)
    steps = -(-count * epochs // batch_size)
    order = [i for step in range(steps) for i in make.indices(step)][: count * epochs]
    for epoch in range(epochs):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert Counter(order) == dict.fromkeys(range(count), epochs)


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_order_does_not_depend_on_the_batch_size_or_on_earlier_steps(one: int, other: int) -> None:
    flat = [[i for step in range(30) for i in batches(20, size, 3).indices(step)] for size in (one, other)]
    shortest = min(map(len, flat))
    assert flat[0][:shortest] == flat[1][:shortest]
    assert batches(20, one, 3).indices(29) == flat[0][29 * one : 30 * one]


def test_another_seed_and_another_epoch_have_another_order() -> None:
    first, second = batches(50, 50, 0), batches(50, 50, 1)
    assert first.indices(0) != first.indices(1)
    assert first.indices(0) != second.indices(0)


def test_a_batch_is_encoded_for_training() -> None:
    seen: list[tuple[list[str | None], bool]] = []

    def encode(examples: list[Example], *, train: bool) -> None:
        seen.append(([example.suffix for example in examples], train))

    make = batches(3, 3, 0)
    make = ExampleBatches(
        examples=make.examples, processor=cast(Any, SimpleNamespace(encode=encode)), batch_size=3, seed=0
    )
    make(0)
    assert seen == [([str(i) for i in make.indices(0)], True)]
