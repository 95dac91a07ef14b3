import pytest

from paligemma2.data.readers.parquet_records import ParquetRecords
from paligemma2.errors import ConfigError
from paligemma2.evaluation.task import HubTable, Row, parse_splits
from tests.small_task import EQUAL, small_task


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("val", 10, (0, 10)),
        ("val[-3:]", 10, (7, 10)),
        ("val[:-3]", 10, (0, 7)),
        ("val[2:5]", 10, (2, 5)),
        ("train[:98%]", 200, (0, 196)),
        ("train[-2%:]", 200, (196, 200)),
        ("val[-10240:]", 100, (0, 100)),
    ],
)
def test_parts_of_splits_are_rows(text: str, count: int, expected: tuple[int, int]) -> None:
    (part,) = parse_splits(text)
    assert part.bounds(count) == expected


def test_splits_add_up() -> None:
    assert [part.name for part in parse_splits("train + val[:-5%]")] == ["train", "val"]


@pytest.mark.parametrize("text", ["", "train +", "train[5]", "val[a:]", "train val"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="does not name splits"):
        parse_splits(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer_from": "cococap"}, "either a recipe or transfer_from"),
        ({"train": ""}, "a recipe needs train"),
        ({"exact": False}, "exact is False"),
        ({"rows": ()}, "no rows"),
        ({"train": "train + dev"}, "no split 'dev'"),
        ({"rows": (Row(title="x", splits=("test[:2]",), metric=EQUAL),)}, "no split 'test'"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_task(**changes)


def test_the_hub_has_no_other_splits() -> None:
    hub = HubTable(id="a/b", splits={"dev": ParquetRecords(files="dev-*")})
    with pytest.raises(ConfigError, match="the hub has other splits"):
        small_task(hub=hub)


def test_a_small_share_of_few_rows_from_the_end_is_nothing() -> None:
    (part,) = parse_splits("train[:-5%]")
    assert part.bounds(1) == (0, 1)
    assert part.bounds(100) == (0, 95)
    (rest,) = parse_splits("train[-5%:]")
    assert rest.bounds(1) == (1, 1)
    assert rest.bounds(100) == (95, 100)


def test_files_with_few_of_the_examples_are_other_data() -> None:
    row = Row(title="x", splits=("val",), metric=EQUAL, num_examples=1000)
    assert row.is_other_data(799)
    assert not row.is_other_data(800)
    assert not Row(title="x", splits=("val",), metric=EQUAL).is_other_data(1)
