"""How well a model does in the procedural world, on pictures it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from paligemma2.data.synthetic.samples import Row, Sample
from paligemma2.data.synthetic.targets import picture_mask
from paligemma2.data.synthetic.world import pair_sample, scene_sample, segment_sample, word_sample
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.metrics.detection import mean_box_iou
from paligemma2.metrics.exact import EXACT_MATCH
from paligemma2.metrics.masks import mean_mask_iou
from paligemma2.metrics.scores import Reference
from paligemma2.processing.parsing import parse_answer
from paligemma2.types import Detection, Generation

_BATCH = 32
_MAX_NEW_TOKENS = 64
_MASK_SIDE = 448
"""Pixels of the pictures that masks are compared in: finer than the model sees."""


@dataclass(frozen=True, kw_only=True)
class WorldScores:
    """Scores from 0 to 1 on one split.

    Attributes:
        caption: captions that equal the description word for word.
        vqa: questions on colour, shape, count, place and relation answered exactly.
        detection: mean box IoU; missing and extra objects count as 0.
        segmentation: mean mask IoU, from predicted boxes and predicted mask tokens together; missing and
            extra objects count as 0.
        words: words read without a mistake.
        letters: letters read at their place in the word.
        pairs: questions that compare two pictures, answered exactly.
        by_kind: exact answers by kind of question.
        examples: pictures asked about per task.
    """

    caption: float
    vqa: float
    detection: float
    segmentation: float
    words: float
    letters: float
    pairs: float
    by_kind: dict[str, float]
    examples: int


@dataclass(frozen=True, kw_only=True)
class _Asked:
    row: Row
    answer: Generation


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
    segmented = _ask(predictor, [segment_sample(split, i, size=size) for i in range(examples)])
    by_task = {task: [a for a in scenes if a.row.task == task] for task in ("caption", "vqa", "detect")}
    answered = by_task["vqa"] + pairs
    kinds = sorted({asked.row.kind for asked in answered})
    return WorldScores(
        caption=_exact(by_task["caption"]),
        vqa=_exact(by_task["vqa"]),
        detection=fmean(
            mean_box_iou(parse_answer(a.answer.text).detections, parse_answer(a.row.suffix).detections)
            for a in by_task["detect"]
        ),
        segmentation=fmean(_mask_iou(predictor, asked) for asked in segmented),
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
        asked += [_Asked(row=row, answer=a) for (_, row), a in zip(batch, answers, strict=True)]
    return asked


def _exact(asked: Sequence[_Asked]) -> float:
    right = [Reference(answers=(each.row.suffix,)) for each in asked]
    return EXACT_MATCH([each.answer.text for each in asked], right).value


def _mask_iou(predictor: PaliGemma2, asked: _Asked) -> float:
    found = predictor.read(asked.answer, (_MASK_SIDE, _MASK_SIDE)).detections
    truths = [
        Detection(label=target.label, box=target.box, mask=picture_mask(target, _MASK_SIDE))
        for target in asked.row.targets
    ]
    return mean_mask_iou(found, truths)


def _letters(asked: _Asked) -> float:
    text = asked.answer.text
    hits = sum(a == b for a, b in zip(text, asked.row.suffix, strict=False))
    return hits / max(len(text), len(asked.row.suffix))
