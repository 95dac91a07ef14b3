"""The score of the model that a transfer starts from: measured once, then found in the run folder."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from paligemma2.checkpoint.atomic import write_json
from paligemma2.jobs.transfer_evaluation import Evaluation, Evaluator
from paligemma2.types import Example

_START = "start.json"


def start_score(
    evaluator: Evaluator, of: Mapping[str, object], on_event: Callable[[str], None]
) -> tuple[Evaluation, list[str]]:
    """The evaluation before the first update, and the answers.

    Args:
        evaluator: with the model before the first update, and the run folder; all processes that share the
            model call this together.
        of: what the score depends on beside the held-out examples; a score of something else is not taken.
        on_event: told if it has to be measured.

    Raises:
        InputError: a prompt does not fit.
        WorkError: the folder cannot be written.
    """
    path = evaluator.folder / _START
    key = json.loads(json.dumps({**of, "held_out": _digest(evaluator.examples)}, default=str))
    saved = evaluator.team.told(lambda: json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
    if saved.get("of") == key:
        return Evaluation(**saved["evaluation"]), saved["answers"]
    on_event("scoring the start")
    evaluation, written = evaluator.measure(0)
    record = {"of": key, "evaluation": asdict(evaluation), "answers": written}
    evaluator.team.told(lambda: write_json(path, record))
    return evaluation, written


def share_start(run_folders: Iterable[Path], to: Path) -> None:
    """Let a run find the score that another one, which may start from the same model, has measured."""
    known = next((folder / _START for folder in (to, *run_folders) if (folder / _START).exists()), None)
    if known is not None and known.parent != to:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(known, to / _START)


def are_scored_alike(run_folders: Iterable[Path]) -> bool:
    """Whether all runs that have begun were scored on the same held-out examples."""
    paths = [folder / _START for folder in run_folders]
    known = {
        json.loads(path.read_text(encoding="utf-8"))["of"]["held_out"] for path in paths if path.exists()
    }
    return len(known) < 2


def _digest(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        images = [
            hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else str(image)
            for image in example.images
        ]
        digest.update(json.dumps([images, example.prefix, example.suffix]).encode())
    return digest.hexdigest()
