import datetime
import json
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from paligemma2.errors import DataError, MissingExtra
from paligemma2.jobs import bulk_sources
from paligemma2.jobs.bulk_sources import (
    BulkProblem,
    BulkRow,
    Unit,
    find_sources,
    from_table,
    read_units,
    to_table,
)
from tests.jobs.small_shards import (
    fields,
    parquet_rows,
    picture,
    sound_members,
    write_data,
    write_parquet,
    write_shard,
)


def all_units(folder: Path, rows_per_unit: int = 4) -> list[Unit]:
    return [unit for source in find_sources(str(folder)) for unit in read_units(source, rows_per_unit)]


def rows_of(units: list[Unit]) -> list[BulkRow]:
    return [row for unit in units for row in unit.rows]


def problems_of(units: list[Unit]) -> list[BulkProblem]:
    return [problem for unit in units for problem in unit.problems]


def test_files_are_found_in_all_folders_but_hidden_ones(tmp_path: Path) -> None:
    write_data(tmp_path)
    write_shard(tmp_path / "_partial" / "x.tar", {})
    write_shard(tmp_path / ".x.tar", {})
    (tmp_path / "readme.txt").write_text("not data")
    found = find_sources(str(tmp_path))
    assert [source.name for source in found] == ["a.tar", "more/b.tgz", "more/c.parquet"]
    assert [source.size for source in found] == [(tmp_path / source.name).stat().st_size for source in found]
    assert found == find_sources(tmp_path.as_uri())
    assert [source.name for source in find_sources(str(tmp_path / "a.tar"))] == ["a.tar"]


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.parquet or \.tar file"):
        find_sources(str(tmp_path))
    with pytest.raises(DataError, match="cannot be opened"):
        find_sources("nowhere://bucket/folder")


def test_a_protocol_without_its_library_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(bulk_sources.fsspec, "url_to_fs", refuse)
    with pytest.raises(MissingExtra, match="Install s3fs"):
        find_sources("s3://bucket/folder")


def test_shards_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    write_shard(tmp_path / "tar" / "x.tar", sound_members(0, 9))
    write_parquet(tmp_path / "parquet" / "x.parquet", parquet_rows(0, 9))
    from_tar, from_parquet = (rows_of(all_units(tmp_path / name)) for name in ("tar", "parquet"))
    assert [(row.id, row.images, json.loads(row.fields)) for row in from_tar] == [
        (row.id, row.images, json.loads(row.fields)) for row in from_parquet
    ]
    assert from_tar[2].source == "x.tar#2"
    assert from_tar[2].images == (picture(2),)
    assert json.loads(from_tar[2].fields) == fields(2)


def test_a_file_is_cut_the_same_way_each_time(tmp_path: Path) -> None:
    write_data(tmp_path)
    units = all_units(tmp_path)
    assert units == all_units(tmp_path)
    assert len({unit.name for unit in units}) == len(units)
    assert [len(unit.rows) + len(unit.problems) for unit in units] == [4, 4, 4, 4, 3, 4, 4, 2]
    assert [unit.is_last for unit in units] == [False, False, True, False, True, False, False, True]


def test_a_unit_of_large_pictures_has_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_sources, "MAX_UNIT_BYTES", 2 * len(picture(0)))
    write_shard(tmp_path / "x.tar", sound_members(0, 5))
    assert [len(unit.rows) for unit in all_units(tmp_path, 100)] == [2, 2, 1]


def test_a_file_without_rows_has_one_empty_unit(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.tar", {})
    (unit,) = all_units(tmp_path)
    assert unit.is_last
    assert unit.place == "none"


def test_rows_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    write_data(tmp_path)
    found = problems_of(all_units(tmp_path))
    assert [(problem.source, problem.reason) for problem in found] == [
        ("a.tar#11", "the sample has no picture"),
        ("more/c.parquet#9", "the row has no picture"),
    ]


def test_several_pictures_keep_their_order(tmp_path: Path) -> None:
    members = {"k.1.png": picture(1), "k.0.png": picture(0), "k.json": b"{}"}
    write_shard(tmp_path / "x.tar", members)
    write_parquet(tmp_path / "y.parquet", [{"images": [picture(0), picture(1)]}])
    first, second = rows_of(all_units(tmp_path))
    assert first.images == second.images == (picture(0), picture(1))
    assert (first.id, second.id) == ("k", "y.parquet#0")


def test_parquet_may_name_pictures_beside_it(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes(picture(0))
    rows = [{"image": "pictures/0.png"}, {"image": "pictures/1.png"}]
    write_parquet(tmp_path / "x.parquet", rows)
    units = all_units(tmp_path)
    assert rows_of(units)[0].images == (picture(0),)
    assert [problem.reason for problem in problems_of(units)] == ["the picture is missing"]


def test_fields_are_plain_text_whatever_the_column_holds(tmp_path: Path) -> None:
    row = {"image": picture(0), "day": datetime.date(2026, 1, 2), "other": b"\x00", "id": 7}
    write_parquet(tmp_path / "x.parquet", [row])
    (found,) = rows_of(all_units(tmp_path))
    assert json.loads(found.fields) == {"day": "2026-01-02", "other": None, "id": 7}
    assert found.id == "7"


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.parquet"])
def test_a_damaged_file_gives_what_is_before_and_a_problem(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "x.parquet":
        write_parquet(path, parquet_rows(0, 9))
    else:
        write_shard(path, sound_members(0, 9))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    units = all_units(tmp_path)
    assert units[-1].is_last
    last = problems_of(units)[-1]
    assert (last.source, last.reason) == (name, "the file is damaged")
    assert last.detail
    assert (0 < len(rows_of(units)) < 9) or name == "x.parquet"


def test_what_is_no_shard_at_all_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"<html>not found</html>" * 100)
    (problem,) = problems_of(all_units(tmp_path))
    assert problem.reason == "the file is damaged"


def test_a_file_that_is_gone_is_not_a_damaged_one(tmp_path: Path) -> None:
    (source,) = find_sources(str(write_shard(tmp_path / "x.tar", sound_members(0, 1))))
    (tmp_path / "x.tar").unlink()
    with pytest.raises(FileNotFoundError):
        list(read_units(source, 4))


def test_any_file_system_of_fsspec_will_do(tmp_path: Path) -> None:
    write_data(tmp_path)
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path), "/bulk-test", recursive=True)
    remote = [u for s in find_sources("memory://bulk-test") for u in read_units(s, 4)]
    assert remote == all_units(tmp_path)
    files.rm("/bulk-test", recursive=True)


def test_a_unit_travels_whole(tmp_path: Path) -> None:
    units = all_units(write_data(tmp_path))
    assert [unit for each in units for unit in from_table(to_table(each))] == units


def test_reading_needs_no_torch() -> None:
    program = "import sys, paligemma2.jobs.bulk_sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
