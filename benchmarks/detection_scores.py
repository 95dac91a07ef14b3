"""Which function of an object's token probabilities ranks objects best.

    python benchmarks/detection_scores.py --scenes 400

The small model is asked about held-out scenes of the procedural world, also for things that are not there:
for every shape, and for colour and shape ("red circle") of what is there and of four things that are nearly
there. One decode gives the objects; only their scores differ from row to row. AP is COCO's, by pycocotools.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import paligemma2
from paligemma2.data.synthetic.palette import COLORS
from paligemma2.data.synthetic.shapes import SHAPES
from paligemma2.data.synthetic.world import scene_of, scene_sample
from paligemma2.inference.detection import read_objects, token_spans
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.metrics.coco import TruePicture, coco_scores
from paligemma2.processing import prompts
from paligemma2.types import Detection, Generation

BATCH = 64
MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Tokens:
    """Log-probabilities: of an object's label and location tokens, and of any location in their place."""

    label: Sequence[float]
    location: Sequence[float]
    anywhere: Sequence[float]


SCORES: dict[str, Callable[[Tokens], float]] = {
    "the same for all": lambda tokens: 0.0,
    "location tokens, geometric mean": lambda tokens: fmean(tokens.location),
    "all tokens, geometric mean": lambda tokens: fmean([*tokens.location, *tokens.label]),
    "label, geometric mean": lambda tokens: fmean(tokens.label),
    "some location, product": lambda tokens: sum(tokens.anywhere),
    "some location, product × label (ours)": lambda tokens: sum(tokens.anywhere) + fmean(tokens.label),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--model", default="tiny")
    arguments = parser.parse_args()
    model = paligemma2.load(arguments.model)
    for title, ask in (("every shape", every_shape), ("colour and shape", nearly_there)):
        print_table(title, model, [ask(index) for index in range(arguments.scenes)])


def every_shape(index: int) -> tuple[TruePicture, list[str]]:
    """What is in a scene by shape, and all shapes."""
    objects = [Detection(label=item.shape, box=item.box) for item in scene_of("validation", index).objects]
    return picture(index, objects), list(SHAPES)


def nearly_there(index: int) -> tuple[TruePicture, list[str]]:
    """What is in a scene by colour and shape, with four things of which only half is there."""
    rng, items = random.Random(index), scene_of("validation", index).objects
    objects = [Detection(label=f"{item.color} {item.shape}", box=item.box) for item in items]
    labels = dict.fromkeys(found.label for found in objects)
    while len(labels) < len({found.label for found in objects}) + 4:
        item = rng.choice(items)
        other = f"{rng.choice(COLORS)} {item.shape}", f"{item.color} {rng.choice(SHAPES)}"
        labels.setdefault(rng.choice(other))
    return picture(index, objects), list(labels)


def picture(index: int, objects: Sequence[Detection]) -> TruePicture:
    return TruePicture(id=index, height=112, width=112, objects=tuple(objects))


def print_table(title: str, model: PaliGemma2, asked: Sequence[tuple[TruePicture, list[str]]]) -> None:
    truth = [each for each, _ in asked]
    rows = [(each.id, label) for each, labels in asked for label in labels]
    found = list(find(model, rows))
    print(f"\n{title}: {len(rows)} prompts about {len(truth)} scenes, {len(found)} objects found")
    for name, score in SCORES.items():
        ranked = [(index, replace(each, score=math.exp(score(tokens)))) for index, each, tokens in found]
        scores = coco_scores(ranked, truth)
        print(f"  {name:40} AP {scores.ap:.3f}  AP50 {scores.ap50:.3f}  AP75 {scores.ap75:.3f}")


def find(model: PaliGemma2, rows: Sequence[tuple[int, str]]) -> Iterator[tuple[int, Detection, Tokens]]:
    size = model.config.vision.image_size
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        images = {index: scene_sample("validation", index, size=size).images[0] for index, _ in batch}
        texts = [prompts.detect(label) for _, label in batch]
        answers = model.generate([images[index] for index, _ in batch], texts, MAX_NEW_TOKENS)
        for (index, _), answer in zip(batch, answers, strict=True):
            for found, tokens in objects_of(model, answer):
                yield index, found, tokens


def objects_of(model: PaliGemma2, answer: Generation) -> Iterator[tuple[Detection, Tokens]]:
    tokenizer = model.processor.tokenizer
    parsed, spans = read_objects(answer, tokenizer), token_spans(tokenizer, answer.token_ids)
    for found, (start, end) in zip(parsed.detections, parsed.spans, strict=True):
        own = [i for i, (first, last) in enumerate(spans) if first < end and last > start]
        corners = [i for i in own if answer.token_ids[i] in tokenizer.location_ids]
        label = [i for i in own if spans[i][1] > end - len(found.label)]
        tokens = Tokens(
            label=[answer.log_probs[i] for i in label] or [0.0],
            location=[answer.log_probs[i] for i in corners],
            anywhere=[answer.location_log_probs[i] for i in corners],
        )
        assert math.isclose(
            SCORES["some location, product × label (ours)"](tokens), math.log(found.score or 1)
        )
        yield found, tokens


if __name__ == "__main__":
    main()
