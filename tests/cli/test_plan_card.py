import pytest

from paligemma2 import tasks
from paligemma2.evaluation.task import Download
from tests.small_results import task_with

PICTURES = Download(what="pictures", url="https://example.org/images", licence="CC BY 4.0", gigabytes=2.5)
TEXTS = Download(what="questions", url="https://example.org/texts", licence="not stated")


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    """Two tasks in the place of the package's own, whose numbers are not those of this test."""
    made = {
        "colours": task_with(num_train=1_000_000, downloads=(PICTURES, TEXTS)),
        "shapes": task_with(
            "Shapes",
            title="Shapes",
            train="",
            recipe=None,
            transfer_from="colours",
            downloads=(PICTURES,),
            exact=False,
            inexact_reason="the list is not public",
        ),
    }
    monkeypatch.setattr(tasks, "names", lambda: tuple(made))
    monkeypatch.setattr(tasks, "load", made.__getitem__)


def test_hours_data_and_what_cannot_be_repeated_are_told(run):
    ended = run("plan", "card", "--size", "3B", "--device", "h200")
    assert ended.code == 0, ended
    lines = ended.out.splitlines()
    assert "224-3B of the card on NVIDIA H200" in lines[0]
    assert "40 % of 989 TFLOP/s" in lines[1]
    (colours,) = (line.split() for line in lines if line.split()[:1] == ["colours"])
    assert colours[1] == "2,000,000"
    assert float(colours[2]) > 0
    assert any(line.split()[:3] == ["shapes", "as", "colours"] for line in lines)
    assert any(line.split()[:1] == ["all"] for line in lines)
    assert "  colours, shapes: pictures, 2.5 GB, licence: CC BY 4.0; https://example.org/images" in lines
    assert "  colours: questions, size not known, licence: not stated; https://example.org/texts" in lines
    assert "  together 2.5 GB and 1 of unknown size" in lines
    assert "  Shapes: the list is not public" in lines


def test_tasks_without_a_number_are_named(run):
    ended = run("plan", "card", "--resolution", 448)
    assert ended.out.splitlines()[-3:] == ["Without a number in this column:", "  Colours", "  Shapes"]


def test_a_column_that_the_card_lacks_is_an_error(run):
    assert run("plan", "card", "--size", "9b").has_failed_with("no column 224-9B")
