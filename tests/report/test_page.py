import re
from html.parser import HTMLParser
from pathlib import Path

from paligemma2.report.card_table import CardTable, card_table, read_runs
from paligemma2.report.page import report_page
from tests.small_results import (
    TASKS,
    save_drawing,
    save_predictions,
    save_run,
    small_result,
    small_row,
    table_of,
    task_with,
)


class _Page(HTMLParser):
    """Tags, links, ids and where things are fetched from; fails on tags that are closed in another order."""

    VOID = frozenset({"meta", "img", "br", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def page_of(table: CardTable) -> str:
    return report_page(table, TASKS, num_samples=4)


def saved_table(folder: Path) -> CardTable:
    run = save_run(folder / "colours", small_result())
    picture = save_drawing(folder / "a.png")
    lines = [
        {"prediction": "<b>blue</b>", "answers": ["teal"], "score": 0.0, "images": [str(picture)]},
        {"prediction": "teal", "answers": ["teal"], "score": 1.0, "images": [str(folder / "gone.png")]},
    ]
    save_predictions(run / "val.jsonl", lines)
    return card_table(read_runs([folder]), TASKS)


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = _Page(page_of(saved_table(tmp_path)))
    assert page.values("src")
    assert all(source.startswith("data:image/") for source in page.values("src"))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(link.startswith("#") for link in page.values("href"))
    assert {link[1:] for link in page.values("href")} <= set(page.values("id"))


def test_numbers_differences_and_samples_are_there_the_worst_first(tmp_path: Path) -> None:
    text = page_of(saved_table(tmp_path))
    assert "70.0 ± 4.5" in text
    assert "+2.0 [−3.0, +6.0]" in text
    assert text.index("&lt;b&gt;blue") < text.index("the picture cannot be read any more")
    assert "<b>blue" not in text


def test_a_partial_run_is_marked(tmp_path: Path) -> None:
    text = page_of(table_of(small_result(small_row(num_scored=5), limit=5)))
    assert "(70.0 ± 4.5)" in text
    assert "partial: at most 5 rows of each split" in text
    assert "not on all the data" in text
    assert 'class="mark' not in text


def test_intervals_beside_the_number_of_the_card_have_their_own_look() -> None:
    kinds = {
        value: set(re.findall(r'class="mark (\w+)"', page_of(table_of(small_result(small_row(value=value))))))
        for value in (0.5, 0.7, 0.9)
    }
    assert kinds == {0.5: {"below"}, 0.7: {"near"}, 0.9: {"above"}}


def test_marks_are_within_the_drawing() -> None:
    table = table_of(small_result(small_row(value=0.1)), small_result(model="b"))
    places = re.findall(r'class="span" x1="([-\d.]+)" x2="([-\d.]+)"', page_of(table))
    assert len(places) == 2
    assert all(0 < float(low) < float(high) < 132 for low, high in places)


def test_several_models_controls_and_rows_without_a_run_share_one_table() -> None:
    control = small_result(small_row(value=0.2), control="shuffled pictures")
    table = table_of(
        small_result(),
        control,
        small_result(column="", model="runs/tiny"),
        tasks={**TASKS, "refcoco": task_with("RefCOCO (val)"), "refcoco+": task_with("RefCOCO+ (val)")},
        has_all_rows=True,
    )
    page = _Page(page_of(table))
    assert "shuffled pictures 20.0" in page_of(table)
    assert len(page.values("id")) == len(set(page.values("id")))
    rows = page_of(table).split("<tbody>")[1].split("</tbody>")[0].split("<tr>")[1:]
    assert {row.count("<td") for row in rows} == {8}


def test_many_rows_are_closed_at_first() -> None:
    few, many = (table_of(small_result(*(small_row(f"R {i}") for i in range(n)))) for n in (3, 9))
    assert page_of(few).count('<details class="row" open>') == 3
    assert page_of(many).count('<details class="row">') == 9


def test_parts_facts_and_notes_are_told() -> None:
    row = small_row(parts={"yes/no": 0.9, "number": 0.4})
    text = page_of(table_of(small_result(row, mode="official")))
    assert re.search(r"yes/no<b>90\.0</b>", text)
    assert "answer en {question}" in text
    assert "equality, official rule" in text
    assert "0123456789ab)" in text
    assert "scored by the data set&#39;s own rule" in text
