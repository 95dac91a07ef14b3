"""The report of a transfer: a page with curves, answers, counters and settings, from its run folder."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paligemma2.checkpoint.atomic import new_file
from paligemma2.drawing.chart import Chart, Point
from paligemma2.drawing.page import Picture, Section, Table, render_page
from paligemma2.drawing.sheet import thumbnail
from paligemma2.errors import Interrupted, PaliGemmaError
from paligemma2.jobs.predict_sheet import summary
from paligemma2.jobs.transfer_evaluation import Evaluation
from paligemma2.processing.image import open_image
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.video import read_clip
from paligemma2.training.run_log import EVALUATIONS, PROGRESS, read_log
from paligemma2.types import Clip, Detection, Example

PAGE, RUN = "report.html", "run.json"
_SAMPLES, _SIDE = 12, 448


@dataclass(kw_only=True)
class Shown:
    """What the page shows beside the files of the run folder; filled in as the run goes on.

    Attributes:
        metric: the name of the score.
        examples: that were held out.
        before: answers of the starting model to them.
        after: answers of the new one.
        start: the evaluation before the first update.
        end: that of the new model.
    """

    metric: str = "score"
    examples: Sequence[Example] = ()
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    start: Evaluation | None = None
    end: Evaluation | None = None


@contextmanager
def reported(folder: Path, warn: Callable[[str], None]) -> Iterator[Shown]:
    """Write the page when the block ends, also by an error; a page that cannot be written ends nothing.

    Args:
        folder: of the run.
        warn: told why there is no page.
    """
    shown = Shown()
    try:
        yield shown
    except Exception as error:
        message = error.message if isinstance(error, PaliGemmaError) else f"{type(error).__name__}: {error}"
        outcome = message if isinstance(error, Interrupted) else f"failed: {message}"
        _write(folder, shown, outcome, warn)
        raise
    _write(folder, shown, "finished", warn)


def transfer_page(folder: Path, shown: Shown, outcome: str) -> str:
    """A whole HTML document that needs nothing from outside.

    Args:
        folder: of the run.
        shown: what is not in there.
        outcome: "finished", or where and why the run stopped.
    """
    run = json.loads((folder / RUN).read_text(encoding="utf-8")) if (folder / RUN).exists() else {}
    progress = read_log(folder, PROGRESS)
    sections = (
        _result(run, progress, shown, outcome),
        _curves(progress, _evaluations(folder, shown), shown),
        *_answers(shown),
        _counters(run, progress),
        Section(title="Settings", table=_settings(run)),
    )
    return render_page(f"Transfer: {folder.name.removesuffix('.run')}", sections)


def _write(folder: Path, shown: Shown, outcome: str, warn: Callable[[str], None]) -> None:
    try:
        page = transfer_page(folder, shown, outcome)
        with new_file(folder / PAGE, overwrite=True) as partial:
            partial.write_text(page, encoding="utf-8")
    except (PaliGemmaError, OSError, ValueError, KeyError) as error:
        warn(f"{folder / PAGE} could not be written: {error}")


def _evaluations(folder: Path, shown: Shown) -> tuple[Evaluation, ...]:
    """All of the run in order, each step once."""
    logged = [Evaluation(**line) for line in read_log(folder, EVALUATIONS)]
    known = [each for each in (shown.start, *logged, shown.end) if each is not None]
    by_step = {each.step: each for each in known}
    return tuple(by_step[step] for step in sorted(by_step))


def _result(
    run: Mapping[str, Any], progress: Sequence[Mapping[str, float]], shown: Shown, outcome: str
) -> Section:
    lines = [outcome[:1].upper() + outcome[1:] + "."]
    if progress:
        last = progress[-1]
        lines.append(f"{last['step']:,} of {last['steps']:,} updates in the log.")
    if "examples" in run:
        lines.append(f"{run['examples']:,} examples to train on, {len(shown.examples):,} held out.")
    if shown.start is None:
        return Section(title="Result", lines=tuple(lines))
    known = [("before", shown.start), ("after", shown.end)]
    rows = tuple(
        (name, f"{each.score:.3f}", f"{each.loss:.4f}", f"{each.step:,}") for name, each in known if each
    )
    table = Table(header=("held out", shown.metric, "loss", "updates"), rows=rows)
    return Section(title="Result", lines=tuple(lines), table=table)


def _curves(
    progress: Sequence[Mapping[str, float]], evaluations: Sequence[Evaluation], shown: Shown
) -> Section:
    kept = shown.end.step if shown.end is not None else None
    charts: list[Chart] = []
    if evaluations:
        scores = tuple((each.step, each.score) for each in evaluations)
        losses = tuple((each.step, each.loss) for each in evaluations)
        charts += [
            Chart(title=f"Validation: {shown.metric}", points=scores, marked=kept),
            Chart(title="Validation: loss", points=losses, marked=kept),
        ]
    if progress:
        charts += [
            Chart(title="Training: loss", points=_curve(progress, "loss")),
            Chart(title="Gradient norm", points=_curve(progress, "grad_norm"), is_log=True),
            Chart(title="Learning rate", points=_curve(progress, "learning_rate")),
            Chart(title="Examples per second", points=_curve(progress, "examples_per_second")),
        ]
    lines = ("To the right the updates; the ring is the model that was saved.",) if charts else ("None yet.",)
    return Section(title="Curves", lines=lines, charts=tuple(charts))


def _curve(progress: Sequence[Mapping[str, float]], name: str) -> tuple[Point, ...]:
    return tuple((line["step"], line[name]) for line in progress)


def _answers(shown: Shown) -> Iterator[Section]:
    """Some held-out examples, spread evenly over all, with the boxes of the right and of the last answer."""
    count = min(len(shown.before), len(shown.examples))
    chosen = [number * count // _SAMPLES for number in range(_SAMPLES)] if count > _SAMPLES else range(count)
    pictures = [picture for i in chosen if (picture := _sample(shown, i)) is not None]
    if pictures:
        lines = (f"{len(pictures)} of {count:,} held-out examples.",)
        yield Section(title="Answers", lines=lines, pictures=tuple(pictures))


def _sample(shown: Shown, i: int) -> Picture | None:
    """None for an example without a picture that can be read."""
    example, right = shown.examples[i], shown.examples[i].suffix or ""
    answers = [("prompt", example.prefix), ("right", _words(right)), ("before", _words(shown.before[i]))]
    if shown.after:
        answers.append(("after", _words(shown.after[i])))
    last = "after" if shown.after else "before"
    boxes = [*_boxes(right, "right"), *_boxes(shown.after[i] if shown.after else shown.before[i], last)]
    try:
        opened = _opened(example)
    except PaliGemmaError:
        return None
    labels = [box.label for box in boxes]
    picture = thumbnail(opened, boxes, labels=labels, side=_SIDE)
    more = len(example.images) - 1
    return Picture(
        image=picture,
        answers=tuple(answers),
        lines=(f"The first of {more + 1} pictures.",) if more else (),
    )


def _opened(example: Example) -> Image.Image:
    image = example.images[0]
    if isinstance(image, Clip):
        pixels = (read_clip(image, _SIDE)[0].transpose(1, 2, 0) + 1) * 127.5
        return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    return open_image(image)


def _words(text: str) -> str:
    """An answer for people: objects are counted, their boxes are drawn."""
    parsed = parse_answer(text)
    return summary(parsed) if parsed.detections else text or "(empty answer)"


def _boxes(text: str, whose: str) -> list[Detection]:
    found = parse_answer(text).detections
    return [replace(each, label=f"{whose}: {each.label}") for each in found]


def _counters(run: Mapping[str, Any], progress: Sequence[Mapping[str, float]]) -> Section:
    last = progress[-1] if progress else {}
    rows = (
        ("updates left out", last.get("skipped", 0)),
        ("updates whose loss or gradient was not a number", last.get("not_finite", 0)),
        ("gradient spikes", last.get("spikes", 0)),
        ("rows left out when the data was read", sum(run.get("left_out", {}).values())),
        ("examples that others stood in for", last.get("skipped_examples", 0)),
        ("suffixes that were cut", last.get("cut_suffixes", 0)),
    )
    table = Table(header=("what", "how often"), rows=tuple((what, f"{count:,}") for what, count in rows))
    return Section(title="Counters", table=table)


def _settings(run: Mapping[str, Any]) -> Table:
    record = {**run.get("transfer", {}), "versions": run.get("versions", {}), "data digest": run.get("data")}
    return Table(header=("setting", "value"), rows=tuple(_flat(record)))


def _flat(record: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", "none" if value is None else str(value)
