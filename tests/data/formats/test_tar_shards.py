import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from paligemma2.data.formats import tar_shards
from paligemma2.data.rows import RowProblem
from paligemma2.errors import DataError
from paligemma2.processing.image import open_image
from paligemma2.types import FilePart
from tests.data.small_data import picture_of, read_rows, read_sound, text_rows, write_rows
from tests.small_model import save_picture


def pack(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as shard:  # type: ignore[call-overload]
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("name", "mode"), [("train-000.tar", "w"), ("train-000.tar.gz", "w:gz")])
def test_files_of_a_sample_belong_together_by_the_name_up_to_the_first_dot(
    tmp_path: Path, name: str, mode: str
) -> None:
    data = save_picture(tmp_path / "a.png").read_bytes()
    record = json.dumps({"prefix": "ask", "suffix": "x"}).encode()
    members = {"a/001.png": data, "a/001.json": record, "a/002.txt": b"a cat\n", "a/002.PNG": data}
    pack(tmp_path / name, members, mode)
    first, second = read_sound(None, tmp_path)
    assert (first.prefix, first.suffix, first.id, first.line) == ("ask", "x", "a/001", 1)
    assert (second.prefix, second.suffix, second.split) == ("caption en", "a cat", "train")
    assert picture_of(first) == picture_of(second) == data


def test_several_pictures_stay_in_order(tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "pictures", [("ask", str(number)) for number in range(12)])
    both = type(rows[0])(
        images=tuple(image for row in rows for image in row.images), prefix="ask", suffix="x", file=tmp_path
    )
    write_rows("tar", tmp_path / "new", [both])
    (again,) = read_sound("tar", tmp_path / "new")
    assert [picture_of(again, number) for number in range(12)] == [picture_of(row) for row in rows]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"b.json": b"{}"}, "the sample has no picture"),
        ({"b.png": b"x"}, r"no .json or .txt"),
        ({"b.png": b"x", "b.json": b"{"}, "not JSON"),
        ({"b.png": b"x", "b.json": b"[]"}, "not a JSON object"),
        ({"b.png": b"x", "b.txt": b"\xff"}, "not UTF-8"),
        ({"b.png": b"x", "b.txt": b" "}, "the suffix is empty"),
    ],
)
def test_a_sample_that_cannot_be_used_is_skipped_and_named(
    tmp_path: Path, members: dict[str, bytes], reason: str
) -> None:
    sound = {"a.png": b"x", "a.txt": b"y"}, {"c.png": b"x", "c.txt": b"y"}
    pack(tmp_path / "train.tar", {**sound[0], **members, **sound[1]})
    rows, (problem,) = read_rows(None, tmp_path)
    assert [row.id for row in rows] == ["a", "c"]
    assert reason in problem.reason
    assert problem.line == 2


def test_links_are_refused_and_nothing_is_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as shard:
        link = tarfile.TarInfo("../../a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        shard.addfile(link)
        shard.addfile(tarfile.TarInfo("../escaped.txt"))
    rows, problems = read_rows(None, tmp_path)
    assert rows == []
    assert problems[0].reason == "a member is not a plain file"
    assert [path.name for path in tmp_path.iterdir()] == ["train.tar"]
    assert not (tmp_path.parent / "escaped.txt").exists()


def test_a_member_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_shards, "MAX_FILE_BYTES", 10)
    pack(tmp_path / "train.tar", {"a.png": b"x" * 11, "a.txt": b"y", "b.png": b"x", "b.txt": b"y"})
    rows, problems = read_rows(None, tmp_path)
    assert [row.id for row in rows] == ["b"]
    assert [problem.reason for problem in problems] == ["a member is too large", "the sample has no picture"]


def test_a_shard_that_is_cut_short_gives_what_came_before_and_then_an_error(tmp_path: Path) -> None:
    members = {f"{number}{ending}": b"x" * 2000 for number in range(5) for ending in (".png", ".txt")}
    path = pack(tmp_path / "train.tar", members)
    path.write_bytes(path.read_bytes()[:11_000])
    rows = iter(tar_shards.read(tmp_path, lambda problem: None))
    assert next(rows).id == "0"
    with pytest.raises(DataError, match=r"train\.tar is damaged"):
        list(rows)


def test_a_new_shard_begins_when_one_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_shards, "_SHARD_ROWS", 2)
    rows = text_rows(tmp_path / "pictures", [("ask", str(number)) for number in range(15)])
    write_rows("tar", tmp_path / "new", rows)
    names = sorted(path.name for path in (tmp_path / "new").glob("train-*"))
    assert names == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    again = [row for row in read_sound("tar", tmp_path / "new") if row.split == "train"]
    assert [row.suffix for row in again] == [str(number) for number in range(0, 15, 3)]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "pictures", [("ask", "x")])
    for name in ("one", "two"):
        write_rows("tar", tmp_path / name, rows)
    first, second = ((tmp_path / name / "train-000000.tar").read_bytes() for name in ("one", "two"))
    assert first == second


@pytest.mark.parametrize(
    ("name", "mode"), [("train.tar", "w"), ("train.tar.gz", "w:gz"), ("odd.tar", "w:gz")]
)
def test_an_index_gives_the_same_rows_with_places_instead_of_pictures(
    tmp_path: Path, name: str, mode: str
) -> None:
    data = [save_picture(tmp_path / f"{number}.png", number).read_bytes() for number in range(3)]
    members = {"a.0.png": data[0], "a.1.png": data[1], "a.json": b'{"suffix": ["x", "y"]}'}
    members |= {"b.txt": b"a cat", "b.png": data[2], "c.png": data[0]}
    pack(tmp_path / name, members, mode)
    problems: list[RowProblem] = []
    indexed = list(tar_shards.index(tmp_path / name, problems.append))
    assert [problem.reason for problem in problems] == ["the sample has no .json or .txt"]
    read = list(tar_shards.read(tmp_path / name, lambda problem: None))
    for one, other in zip(indexed, read, strict=True):
        assert replace(one, images=()) == replace(other, images=())
        for place, picture in zip(one.images, other.images, strict=True):
            assert isinstance(place, FilePart if mode == "w" else bytes)
            assert open_image(place).tobytes() == open_image(picture).tobytes()


def test_an_index_refuses_what_is_no_plain_file_and_tells_of_damage(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as shard:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        shard.addfile(link)
    problems: list[RowProblem] = []
    assert list(tar_shards.index(tmp_path, problems.append)) == []
    assert problems[0].reason == "a member is not a plain file"
    pack(tmp_path / "train.tar", {"a.png": bytes(5000), "a.txt": b"x", "b.png": bytes(5000), "b.txt": b"y"})
    whole = (tmp_path / "train.tar").read_bytes()
    (tmp_path / "train.tar").write_bytes(whole[:8000])  # within the second picture
    with pytest.raises(DataError, match=r"damaged or not a tar file: b\.png is cut short"):
        list(tar_shards.index(tmp_path, problems.append))
    (tmp_path / "train.tar").write_bytes(whole[:7000])  # within its header
    assert [row.id for row in tar_shards.index(tmp_path, problems.append)] == ["a"]
    assert problems[1].reason == "the shard has no end mark: it may have been cut short"
