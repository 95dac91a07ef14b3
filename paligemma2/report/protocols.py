"""The protocol of each task in words, made from the task itself: the second part of `docs/benchmarks.md`."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from paligemma2 import tasks
from paligemma2.errors import InputError
from paligemma2.evaluation.task import COLUMNS, Row, Task
from paligemma2.training.recipes import ByResolution, TransferRecipe

BEGIN = "<!-- Made from the tasks by `make docs`; changes below this line are lost. -->"
_SIZES = ("3B", "10B", "28B")


def with_protocols(page: str, benchmarks: Mapping[str, Task]) -> str:
    """The page with its second part made anew.

    Args:
        page: text of the document, the line `BEGIN` in it.
        benchmarks: by name.

    Raises:
        InputError: the line is not there.
    """
    head, found, _ = page.partition(BEGIN)
    if not found:
        raise InputError("the page does not say where its second part begins", hint=f"put in a line {BEGIN}")
    return f"{head}{BEGIN}\n\n{protocols(benchmarks)}"


def update(path: Path) -> None:
    """Make the second part of the document anew from the tasks of the package."""
    known = {name: tasks.load(name) for name in tasks.names()}
    page = with_protocols(path.read_text(encoding="utf-8"), known)
    path.write_text(page, encoding="utf-8", newline="\n")


def protocols(benchmarks: Mapping[str, Task]) -> str:
    """A table of all rows of the card, and a section for each task."""
    rows = sorted((row.title, name, row) for name, task in benchmarks.items() for row in task.rows)
    lines = ["## All rows", "", "| row | task | prompt | reported on | metric | exact |", "| --- " * 6 + "|"]
    for title, name, row in rows:
        task = benchmarks[name]
        cells = (
            title,
            f"[{name}](#{name})",
            _code(task.prefix),
            _splits(row),
            row.metric.name,
            "yes" if task.exact else "no",
        )
        lines.append(_line(cells))
    lines += ["", "## The tasks"]
    for name in sorted(benchmarks):
        lines += ["", f"### {name}", "", *_section(benchmarks[name])]
    return "\n".join(lines) + "\n"


def _section(task: Task) -> Iterator[str]:
    yield f"{task.title}. {task.source}."
    yield ""
    yield _line(("row", "examples", *COLUMNS))
    yield "| --- |" + " ---: |" * (1 + len(COLUMNS))
    for row in task.rows:
        examples = "" if row.num_examples is None else f"{row.num_examples:,}"
        yield _line((row.title, examples, *("–" if value is None else f"{value}" for value in row.published)))
    yield ""
    for name, text in (
        ("Prompt", _prompt(task)),
        ("Answer", _answer(task)),
        ("Pictures", _pictures(task)),
        ("Logits", _caps(task)),
        ("Training", _training(task)),
        *((f"Metric, {row.metric.name}", _metric(row)) for row in _by_metric(task)),
        ("To fetch", "; ".join(_downloads(task))),
        ("Test server", _server(task)),
        ("Exact", task.inexact_reason or "the public data and code allow the same evaluation as the paper's"),
    ):
        if text:
            yield f"- {name}: {text.removesuffix('.')}."
    for note in task.notes:
        yield f"- {note}"


def _prompt(task: Task) -> str:
    length = f"prompt and answer have at most {task.text_length} tokens in training"
    return f"{_code(task.prefix)}, then a newline as a token of its own; {length}"


def _answer(task: Task) -> str:
    decoded = "greedy" if task.beams == 1 else f"with a beam of {task.beams}"
    right = f"right is {_code(_literal(task.suffix))}"
    if task.references is not None:
        right = f"trained on {_code(_literal(task.suffix))}, scored by {_code(_literal(task.references))}"
    return f"{right}; decoded {decoded}, at most {task.text_length} tokens"


def _pictures(task: Task) -> str:
    count = f"{task.num_pictures} to a prompt, " if task.num_pictures > 1 else ""
    if task.frames is not None:
        count = f"{task.frames.count} frames of a video, the first and each {task.frames.stride}th after it, "
    words = {True: "with antialias", False: "without antialias"}
    text = f"{count}squashed to a square bilinearly, {words[task.antialias]}"
    if task.train_antialias not in (None, task.antialias):
        text += f"; in training {words[bool(task.train_antialias)]}"
    return text


def _caps(task: Task) -> str:
    output = "no soft-cap" if task.final_cap is None else f"soft-cap {task.final_cap:g}"
    attention = "no soft-cap" if task.attention_cap is None else f"soft-cap {task.attention_cap:g}"
    window = "no window" if task.window is None else f"a window of {task.window:,}"
    return f"{output} on the output, {attention} and {window} on the attention"


def _training(task: Task) -> str:
    if task.recipe is None:
        return f"none, zero-shot with the model of [{task.transfer_from}](#{task.transfer_from})"
    count = "" if task.num_train is None else f" ({task.num_train:,} examples)"
    tuned = ""
    if task.tune is not None:
        tuned = f"; hyper-parameters chosen on {_code(task.tune[1])} after {_code(task.tune[0])}"
    return f"on {_code(task.train)}{count}, {', '.join(_recipe(task.recipe))}{tuned}"


def _recipe(recipe: TransferRecipe) -> Iterator[str]:
    yield f"{_by_resolution(recipe.epochs)} {'epoch' if recipe.epochs == 1 else 'epochs'}"
    yield f"batches of {_by_resolution(recipe.batch_size)}"
    rates = [
        f"{rate:g} ({size}{_also(others)})"
        for rate, size, others in zip(recipe.paligemma2, _SIZES, recipe.alternatives, strict=True)
        if rate is not None
    ]
    yield f"learning rate {', '.join(rates)}"
    for name, value in (("weight decay", recipe.weight_decay), ("dropout", recipe.dropout)):
        if value not in (0, (0, 0, 0)):
            yield f"{name} {_by_resolution(value)}"
    if recipe.label_smoothing:
        yield f"label smoothing {recipe.label_smoothing:g}"
    frozen = recipe.is_image_frozen
    if frozen is True:
        yield "image encoder frozen"
    elif isinstance(frozen, tuple) and any(frozen):
        pixels = [str(size) for size, is_so in zip((224, 448, 896), frozen, strict=True) if is_so]
        yield f"image encoder frozen at {' and '.join(pixels)} pixels"


def _also(others: tuple[float, ...]) -> str:
    return f"; also {', '.join(f'{rate:g}' for rate in others)}" if others else ""


def _by_resolution(value: ByResolution) -> str:
    if not isinstance(value, tuple):
        return f"{value:g}"
    if len(set(value)) == 1:
        return f"{value[0]:g}"
    return f"{value[0]:g} / {value[1]:g} / {value[2]:g} (224 / 448 / 896 pixels)"


def _by_metric(task: Task) -> tuple[Row, ...]:
    return tuple({row.metric.name: row for row in task.rows}.values())


def _metric(row: Row) -> str:
    modes = "one rule for both modes" if row.metric.official is None else "`paligemma` and `official` differ"
    return f"{row.metric.source}; {modes}"


def _downloads(task: Task) -> Iterator[str]:
    for each in task.downloads:
        size = "" if each.gigabytes is None else f", {each.gigabytes:g} GB"
        yield f"{each.what}{size}, licence: {each.licence} (<{each.url}>)"


def _server(task: Task) -> str:
    if not task.test_split:
        return ""
    return f"the right answers of {_code(task.test_split)} are not public; its submission file is written"


def _splits(row: Row) -> str:
    if len(row.splits) <= 3:
        return ", ".join(map(_code, row.splits))
    return f"{_code(row.splits[0])} … {_code(row.splits[-1])}, the mean of {len(row.splits)}"


def _literal(value: object) -> str:
    """A frozen dataclass as it would be written: its name, and the fields that are not as by default."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    given = [
        f"{field.name}={_literal(getattr(value, field.name))}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(given)})"


def _code(text: str) -> str:
    shown = text.replace("\n", "\\n").replace("\t", "\\t")
    return f"`{shown}`"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
