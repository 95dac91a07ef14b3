import json
from pathlib import Path

import pytest

from paligemma2.data import sources
from paligemma2.data.registry import FORMATS
from paligemma2.data.sources import DataSource, SourceExamples, parse_source, read_source
from paligemma2.errors import DataError, InputError
from paligemma2.types import FilePart
from tests.data.small_data import object_rows, text_rows, write_rows
from tests.small_model import save_picture


def line(image: object = "a.png", prefix: object = "ask", suffix: object = "answer", **more: object) -> str:
    return json.dumps({"image": image, "prefix": prefix, "suffix": suffix, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.png")):
        save_picture(tmp_path / name, number)
    return tmp_path


def write(folder: Path, *lines: str, name: str = "_annotations.train.jsonl") -> None:
    (folder / name).write_text("\n".join(lines), encoding="utf-8")


def read(folder: Path, faults: str = "fail", **options: object) -> SourceExamples:
    return read_source(DataSource(path=folder, **options), faults=faults)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_can_be_trained_on(tmp_path: Path, name: str) -> None:
    if FORMATS[name].holds == "objects":
        rows = object_rows(tmp_path / "pictures", 9)
        expected = {"train": 2, "held_out": 3}  # the first has no object
    else:
        rows = text_rows(tmp_path / "pictures", [("caption en", f"text {number}") for number in range(9)])
        expected = {"train": 3, "held_out": 3}
    write_rows(name, tmp_path / "data", rows)
    found = read(tmp_path / "data")
    assert {"train": len(found.train), "held_out": len(found.held_out)} == expected
    assert len({example.id for example in found.train}) == len(found.train)
    for example in found.train:
        assert example.suffix
        assert example.prefix.startswith(("caption en", "detect "))


def test_objects_become_detect_prompts_and_pictures_without_are_noted(tmp_path: Path) -> None:
    write_rows("coco", tmp_path / "data", object_rows(tmp_path / "pictures", 4))
    found = read(tmp_path / "data")
    (example,) = found.train
    assert example.prefix.startswith("detect ")
    assert example.suffix is not None
    assert example.suffix.count("<loc") == 12
    assert found.problems.noted == {"a picture without objects is left out": 1}
    assert found.problems.skipped == {}


def test_a_row_may_have_several_answers(folder: Path) -> None:
    write(folder, line(suffix=["one", "two", "two"]), line(suffix=["only"]), line())
    first, second, third = read(folder).train
    assert (first.suffix, first.answers) == ("one", ("one", "two", "two"))
    assert (second.suffix, second.answers) == ("only", ())
    assert (third.suffix, third.answers) == ("answer", ())


def test_captions_of_a_picture_are_one_example(folder: Path) -> None:
    captions = [{"id": n, "image_id": 7, "caption": f"caption {n}"} for n in range(5)]
    image = {"id": 7, "file_name": "a.png", "height": 40, "width": 60}
    (folder / "captions_train2017.json").write_text(json.dumps({"images": [image], "annotations": captions}))
    (example,) = read(folder).train
    assert example.prefix == "caption en"
    assert example.answers == tuple(f"caption {n}" for n in range(5))


def test_the_pictures_of_plain_tar_shards_are_not_read(tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "pictures", [("ask", str(number)) for number in range(6)])
    write_rows("tar", tmp_path / "data", rows)
    found = read(tmp_path / "data")
    assert found.train.num_bytes < 1000
    for example, row in zip(found.train, rows[::3], strict=True):
        (part,) = example.images
        assert isinstance(part, FilePart)
        whole = part.path.read_bytes()
        assert whole[part.offset : part.offset + part.size] == Path(str(row.images[0])).read_bytes()


def test_pictures_inside_of_other_files_must_fit_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows("parquet", tmp_path / "data", text_rows(tmp_path / "pictures", [("ask", "a"), ("ask", "b")]))
    assert isinstance(read(tmp_path / "data").train[0].images[0], bytes)
    monkeypatch.setattr(sources, "_MAX_BYTES", 100)
    with pytest.raises(DataError, match="can only be read from begin to end") as caught:
        read(tmp_path / "data")
    assert "--to tar" in caught.value.hint


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line("c.png"), "the picture is missing"),
        (line(["a.png", "c.png"]), "the picture is missing"),
        ('{"image": ', "not JSON"),
        (line(suffix="  "), "the suffix is empty"),
        (line(suffix=[]), "the suffix is empty"),
        (line(suffix=["one", " "]), "the suffix is empty"),
        (line(suffix=["one", 3]), "the suffix is not text"),
        (line(image=None), "no picture is named"),
    ],
)
def test_what_cannot_be_used_is_refused_or_counted(folder: Path, bad: str, reason: str) -> None:
    write(folder, line(), bad, line("b.png"))
    with pytest.raises(DataError, match=f"1 of its rows cannot be used .*line 2: {reason}") as caught:
        read(folder)
    assert "--faults skip" in caught.value.hint
    found = read(folder, "skip")
    assert [str(example.images[0])[-5:] for example in found.train] == ["a.png", "b.png"]
    assert found.problems.skipped == {reason: 1}
    assert (found.problems.problems[0].line, found.problems.problems[0].reason) == (2, reason)


def test_what_is_only_corrected_is_no_fault(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + (line() + "\r\n").encode())
    assert read(folder).problems.noted.total() == 2


@pytest.mark.parametrize("name", ["valid", "validation", "val", "test"])
def test_held_out_examples_are_those_of_the_usual_names(folder: Path, name: str) -> None:
    write(folder, line())
    write(folder, line(suffix="held out"), name=f"_annotations.{name}.jsonl")
    assert [example.suffix for example in read(folder).held_out] == ["held out"]


def test_validation_goes_before_test_and_neither_must_be_there(folder: Path) -> None:
    write(folder, line())
    assert len(read(folder).held_out) == 0
    write(folder, line(suffix="test"), name="test.jsonl")
    write(folder, line(suffix="valid"), name="valid.jsonl")
    assert [example.suffix for example in read(folder).held_out] == ["valid"]


def test_another_split_can_be_trained_on(folder: Path) -> None:
    write(folder, line(suffix="valid"), name="valid.jsonl")
    write(folder, line(suffix="test"), name="test.jsonl")
    found = read(folder, split="val")
    assert [example.suffix for example in found.train] == ["valid"]
    assert [example.suffix for example in found.held_out] == ["test"]


def test_without_rows_to_train_on_there_is_nothing_to_do(folder: Path) -> None:
    write(folder, line(), name="valid.jsonl")
    with pytest.raises(DataError, match="no rows to train on of split 'train'"):
        read(folder)
    write(folder, line("c.png"))
    with pytest.raises(DataError, match="no rows to train on") as caught:
        read(folder, "skip")
    assert "the picture is missing" in caught.value.hint


def test_the_fingerprint_changes_with_text_answers_pictures_and_order_but_not_with_the_place(
    folder: Path,
) -> None:
    prints = []
    for lines in (
        (line(), line("b.png")),
        (line("b.png"), line()),
        (line(),),
        (line(prefix="other"), line("b.png")),
        (line(suffix=["answer", "other"]), line("b.png")),
    ):
        write(folder, *lines)
        prints.append(read(folder).fingerprint)
    save_picture(folder / "a.png", 9, (61, 40))
    write(folder, line(), line("b.png"))
    prints.append(read(folder).fingerprint)
    assert len(set(prints)) == 6
    write(folder, line(suffix="held out"), name="valid.jsonl")
    moved = folder.rename(folder.with_name("moved"))
    assert read(moved).fingerprint == prints[-1]


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [("data", "data", 1.0), ("data=3", "data", 3.0), ("a=b=0.5", "a=b", 0.5), ("C:/x=1e-2", "C:/x", 0.01)],
)
def test_a_source_is_a_path_and_perhaps_a_weight(text: str, path: str, weight: float) -> None:
    assert parse_source(text) == DataSource(path=Path(path), weight=weight)


def test_a_path_that_exists_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run=3").mkdir()
    assert parse_source(f"{tmp_path}/run=3").path == tmp_path / "run=3"
    assert parse_source(f"{tmp_path}/run=3=2") == DataSource(path=tmp_path / "run=3", weight=2.0)


@pytest.mark.parametrize("text", ["data=", "data=much", "data=0", "data=-1", "data=nan", "data=inf"])
def test_a_weight_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="data"):
        parse_source(text)
