"""How well a model does in the procedural world, on pictures it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from paligemma2.data.synthetic.samples import Row, Sample
from paligemma2.data.synthetic.world import pair_sample, scene_sample, word_sample
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.metrics.answers import exact_match
from paligemma2.metrics.detection import mean_box_iou
from paligemma2.processing.parsing import parse_answer

_BATCH = 32
_MAX_NEW_TOKENS = 48


@dataclass(frozen=True, kw_only=True)
class WorldScores:
    """Scores from 0 to 1 on one split.

    Attributes:
        caption: captions that equal the description word for word.
        vqa: questions on colour, shape, count, place and relation answered exactly.
        detection: mean box IoU; missing and extra objects count as 0.
        words: words read without a mistake.
        letters: letters read at their place in the word.
        pairs: questions that compare two pictures, answered exactly.
        by_kind: exact answers by kind of question.
        examples: pictures asked about per task.
    """

    caption: float
    vqa: float
    detection: float
    words: float
    letters: float
    pairs: float
    by_kind: dict[str, float]
    examples: int


@dataclass(frozen=True, kw_only=True)
class _Asked:
    row: Row
    text: str


def score_world(predictor: PaliGemma2, split: str, *, examples: int) -> WorldScores:
    """The scores of a model on the first pictures of a split.

    Args:
        predictor: any loaded model.
        split: "validation", "test" or "test_other_style".
        examples: scenes, words and pairs to ask about, each.
    """
    size = predictor.config.vision.image_size
    scenes = _ask(predictor, [scene_sample(split, i, size=size) for i in range(examples)])
    words = _ask(predictor, [word_sample(split, i, size=size) for i in range(examples)])
    pairs = _ask(predictor, [pair_sample(split, i, size=size) for i in range(examples)])
    by_task = {task: [a for a in scenes if a.row.task == task] for task in ("caption", "vqa", "detect")}
    answered = by_task["vqa"] + pairs
    kinds = sorted({asked.row.kind for asked in answered})
    return WorldScores(
        caption=_exact(by_task["caption"]),
        vqa=_exact(by_task["vqa"]),
        detection=fmean(
            mean_box_iou(parse_answer(a.text).detections, parse_answer(a.row.suffix).detections)
            for a in by_task["detect"]
        ),
        words=_exact(words),
        letters=fmean(_letters(asked) for asked in words),
        pairs=_exact(pairs),
        by_kind={kind: _exact([asked for asked in answered if asked.row.kind == kind]) for kind in kinds},
        examples=examples,
    )


def _ask(predictor: PaliGemma2, samples: Sequence[Sample]) -> list[_Asked]:
    pending = [(sample, row) for sample in samples for row in sample.rows]
    asked = []
    for start in range(0, len(pending), _BATCH):
        batch = pending[start : start + _BATCH]
        answers = predictor.generate(
            [sample.images for sample, _ in batch], [row.prefix for _, row in batch], _MAX_NEW_TOKENS
        )
        asked += [_Asked(row=row, text=a.text) for (_, row), a in zip(batch, answers, strict=True)]
    return asked


def _exact(asked: Sequence[_Asked]) -> float:
    return exact_match([a.text for a in asked], [a.row.suffix for a in asked]).value


def _letters(asked: _Asked) -> float:
    hits = sum(a == b for a, b in zip(asked.text, asked.row.suffix, strict=False))
    return hits / max(len(asked.text), len(asked.row.suffix))
