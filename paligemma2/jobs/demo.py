"""The demo: the shipped model about three pictures, then taught a new task; an HTML page shows both."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from paligemma2.assets import PICTURES_FOLDER
from paligemma2.data.synthetic.transfer_task import PREFIX, write_transfer_task
from paligemma2.drawing.boxes import draw_detections
from paligemma2.drawing.page import Picture, Section, Table, render_page
from paligemma2.errors import ConfigError, InputError, WorkError
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs import transfer
from paligemma2.jobs.transfer import TransferReport
from paligemma2.jobs.transfer_config import configure
from paligemma2.training.trainer import Progress
from paligemma2.types import Detection

TRAIN, HELD_OUT = 640, 160
_SEED = 0
_SHOWN_SAMPLES = 6
_EVERY = 50

OnEvent = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Questions:
    """What is asked about a bundled picture; the objects of the answers are drawn."""

    file: str
    title: str
    prompts: tuple[str, ...]


_QUESTIONS = (
    _Questions(
        file="shapes.png",
        title="Paper shapes",
        prompts=(
            "caption en",
            "answer en how many objects are there?",
            "answer en what color is the star?",
            "answer en where is the red circle?",
            "detect red circle ; green star",
            "segment green star",
        ),
    ),
    _Questions(file="sign.png", title="A sign", prompts=("ocr",)),
    _Questions(
        file="freehand.png",
        title="A freehand drawing",
        prompts=(
            "caption en",
            "answer en what shape is purple?",
            "answer en how many objects are there?",
            "detect heart",
            "segment the left object",
        ),
    ),
)


def run(folder: Path, on_event: OnEvent, *, steps: int = 250) -> Path:
    """Ask, teach, and write the page; an earlier demo in the folder is replaced.

    Args:
        folder: for the page, the task and the new model.
        on_event: called with a line of text at every event.
        steps: updates of the transfer.

    Returns:
        The page.

    Raises:
        InputError: something that no demo wrote stands in the way.
        WorkError: the folder cannot be written.
        Interrupted: a stop request came during the transfer; the next demo goes on from there.
    """
    _prepare(folder)
    sections = [_asked(load("tiny"), on_event), _taught(_transfer(folder, on_event, steps), steps)]
    page = folder / "index.html"
    try:
        page.write_text(render_page("PaliGemma 2, the small model", sections), encoding="utf-8")
    except OSError as error:
        raise WorkError(f"{page} cannot be written: {error}", hint="choose another folder") from error
    return page


def _prepare(folder: Path) -> None:
    """Make the folder, and remove the model of an earlier demo from it."""
    model = _model_folder(folder)
    if model.exists() and not (model / "config.json").is_file():
        raise InputError(f"{model} is not of an earlier demo", hint="choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if model.exists():
            shutil.rmtree(model)
            shutil.rmtree(_run_folder(folder), ignore_errors=True)
    except OSError as error:
        raise WorkError(f"{folder} cannot be written: {error}", hint="choose another folder") from error


def _model_folder(folder: Path) -> Path:
    return folder / "sorting_model"


def _run_folder(folder: Path) -> Path:
    return folder / "sorting_model.run"


def _asked(model: PaliGemma2, on_event: OnEvent) -> Section:
    return Section(
        title="Asked about three pictures",
        lines=("The model inside the package: what was asked, and what it wrote.",),
        pictures=tuple(_picture(model, questions, on_event) for questions in _QUESTIONS),
    )


def _picture(model: PaliGemma2, questions: _Questions, on_event: OnEvent) -> Picture:
    with Image.open(PICTURES_FOLDER / questions.file) as file:
        image = file.convert("RGB")
    answers: list[tuple[str, str]] = []
    drawn: dict[str, tuple[Detection, ...]] = {}
    for prompt in questions.prompts:
        generation = model.generate(image, prompt)[0]
        found = model.read(generation, (image.height, image.width)).detections
        for label in dict.fromkeys(
            each.label for each in found
        ):  # the later answer, which has a mask, replaces a box
            drawn[label] = tuple(each for each in found if each.label == label)
        answer = _summary(found) or generation.text
        on_event(f"{questions.file}  {prompt}  ->  {answer}")
        answers.append((prompt, answer))
    detections = [each for found in drawn.values() for each in found]
    return Picture(image=draw_detections(image, detections), title=questions.title, answers=tuple(answers))


def _summary(found: Sequence[Detection]) -> str:
    """Names and scores, and how much of the picture a mask covers."""
    parts = []
    for each in found:
        covers = "" if each.mask is None else f", mask of {each.mask.mean():.1%} of the picture"
        parts.append(f"{each.label} (score {each.score:.2f}{covers})")
    return ", ".join(parts)


def _transfer(folder: Path, on_event: OnEvent, steps: int) -> TransferReport:
    on_event(f"drawing {TRAIN + HELD_OUT} pictures of a new task, {PREFIX!r}")
    data, output = folder / "sorting_task", _model_folder(folder)
    write_transfer_task(data, train=TRAIN, held_out=HELD_OUT, seed=_SEED)
    settings = (f"training.steps={steps}", "evaluation.max_new_tokens=12")
    config = configure("tiny", data, output, settings=settings)

    def on_progress(name: str, progress: Progress) -> None:
        if progress.step % _EVERY == 0 or progress.step == progress.steps:
            on_event(f"step {progress.step} of {progress.steps}  loss {progress.loss:.3f}")

    try:
        report = transfer.run(config, on_progress, on_event)
    except ConfigError:  # an earlier demo with other settings was stopped half-way
        shutil.rmtree(_run_folder(folder), ignore_errors=True)
        report = transfer.run(config, on_progress, on_event)
    on_event(f"{report.metric} on held-out pictures: {report.before:.2f} before, {report.after:.2f} after")
    return report


def _taught(report: TransferReport, steps: int) -> Section:
    name = f"{report.metric}, {report.examples} pictures"
    scores = Table(
        header=("held-out pictures", "before", "after"),
        rows=((name, f"{report.before:.2f}", f"{report.after:.2f}"),),
    )
    return Section(
        title="Taught a new task",
        lines=(
            f"Prompt: {PREFIX!r}. The shape decides the letter of the bin and the colour its digit; the rule "
            "was drawn at random, and neither it, nor these words, nor this drawing style were in the "
            "pre-training.",
            f"{steps} updates of 16 examples, from {TRAIN} pictures. The pictures below are held out.",
        ),
        pictures=_samples(report.samples[:_SHOWN_SAMPLES]),
        table=scores,
    )


def _samples(samples: Sequence[transfer.TransferSample]) -> tuple[Picture, ...]:
    pictures = []
    for sample in samples:
        with Image.open(str(sample.example.images[0])) as file:
            image = file.convert("RGB")
        answers = (("right", sample.example.suffix or ""), ("before", sample.before), ("after", sample.after))
        pictures.append(Picture(image=image, answers=answers))
    return tuple(pictures)
