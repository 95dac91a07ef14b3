import csv
import io

from paligemma2.report.card_table import CardTable
from paligemma2.report.markdown import coverage_text, csv_text, difference_text, markdown, value_text
from tests.small_results import TASKS, small_result, small_row, table_of, task_with


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows_of(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header = cells(lines[0])
    return [dict(zip(header, cells(line), strict=True)) for line in (lines[2:])]


def with_controls() -> CardTable:
    control = small_result(small_row(value=0.25), control="shuffled pictures")
    tasks = {**TASKS, "shapes": task_with("Shapes")}
    return table_of(small_result(), control, tasks=tasks, has_all_rows=True)


def test_the_table_has_the_published_number_ours_and_the_difference() -> None:
    text = markdown(with_controls())
    first, second = rows_of(text)
    assert first == {
        "row": "Colours (val)",
        "metric": "equality",
        "card 224-3B": "68.0",
        "ours, 224-3B": "70.0 ± 4.5",
        "difference": "+2.0 [−3.0, +6.0]",
        "examples": "6",
    }
    assert (second["card 224-3B"], second["ours, 224-3B"], second["difference"]) == ("68.0", "", "")
    assert "- Colours (val): control (shuffled pictures): 25.0" in text.splitlines()


def test_a_partial_run_is_in_brackets_without_a_difference() -> None:
    table = table_of(small_result(small_row(num_scored=5)))
    (number,) = table.numbers
    assert value_text(number) == "(70.0 ± 4.5)"
    assert difference_text(number) == ""
    assert coverage_text(number) == "5 of 6"
    assert "- Colours (val): partial: 1 of 6 examples were not scored" in markdown(table).splitlines()


def test_a_model_of_another_size_has_no_column_of_the_card() -> None:
    (row,) = rows_of(markdown(table_of(small_result(column="", model="runs/tiny"))))
    assert row == {"row": "Colours (val)", "metric": "equality", "tiny": "70.0 ± 4.5", "examples": "6"}


def test_text_cannot_break_the_table() -> None:
    text = markdown(table_of(small_result(small_row("a|b\nc"), column="")))
    assert "| a\\|b c | equality |" in text


def test_csv_has_a_line_for_each_number_control_and_row_without_a_run() -> None:
    ours, control, alone = csv.DictReader(io.StringIO(csv_text(with_controls())))
    assert (ours["published"], ours["value"], ours["low"], ours["high"]) == (
        "68.0",
        "70.000",
        "65.000",
        "74.000",
    )
    assert (ours["difference"], ours["difference_low"], ours["difference_high"]) == (
        "2.000",
        "-3.000",
        "6.000",
    )
    assert (ours["is_whole"], ours["protocol"], ours["num_scored"]) == ("true", "5eed", "6")
    assert (control["control"], control["value"], control["difference"]) == (
        "shuffled pictures",
        "25.000",
        "",
    )
    assert (alone["row"], alone["published"], alone["value"]) == ("Shapes", "68.0", "")
