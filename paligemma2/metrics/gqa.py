"""GQA (Hudson and Manning 2019, arXiv:1902.09506): equality, and what the authors' script adds to it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from paligemma2.metrics.exact import exact_match
from paligemma2.metrics.scores import Metric, Reference, Scores, part_scores, scored

_NO_STEPS = ("exist", "query: name", "choose name")  # what only asks, after the reasoning


def gqa_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The authors' script: equality on balanced questions; others are in no group.

    Args:
        predictions: what the model wrote.
        references: of each prediction. `meta` may have the fields of the data set: `question`, `isBalanced`
            (true where absent), `types` with `structural` and `semantic`, `semantic` (the steps) and `groups`
            with `global`. Where a field is absent the parts made from it leave the question out.

    Returns:
        Scores whose parts are the accuracies of "binary" and "open" questions, and of each "structural: …",
        "semantic: …", "steps: …" and "words: …"; and "distribution", the distance of predicted from right
        answers (chi squared / 100, mean over groups weighted by size; lower is better). The script's copies
        that are in use print 0 for consistency, validity, plausibility and grounding; these are not computed.

    Raises:
        InputError: no question is balanced and has an answer.
    """
    values = exact_match(predictions, references).values
    counts = [bool(reference.answers) and reference.meta.get("isBalanced", True) for reference in references]
    kinds: dict[str, list[str]] = defaultdict(list)
    for reference, is_counted in zip(references, counts, strict=True):
        for kind, name in _kinds(reference.meta).items():
            kinds[kind].append(name if is_counted else "")
    parts: dict[str, float] = {}
    for names in kinds.values():
        parts |= part_scores(values, names)
    parts["distribution"] = _distribution(
        [
            pair
            for pair, is_counted in zip(zip(predictions, references, strict=True), counts, strict=True)
            if is_counted
        ]
    )
    groups = () if all(counts) else ["all" if is_counted else "" for is_counted in counts]
    return scored(values, groups=groups, parts=parts)


def _kinds(meta: Mapping[str, Any]) -> dict[str, str]:
    types = meta.get("types", {})
    structural, semantic = types.get("structural", ""), types.get("semantic", "")
    return {
        "answer": ("open" if structural == "query" else "binary") if structural else "",
        "structural": f"structural: {structural}" if structural else "",
        "semantic": f"semantic: {semantic}" if semantic else "",
        "steps": f"steps: {_num_steps(meta['semantic'])}" if "semantic" in meta else "",
        "words": f"words: {len(meta['question'].split())}" if "question" in meta else "",
    }


def _num_steps(steps: Sequence[Mapping[str, str]]) -> int:
    written = [f"{step['operation']}: {step['argument']}" for step in steps]
    return sum(not any(ending in step for ending in _NO_STEPS) for step in written)


def _distribution(pairs: Sequence[tuple[str, Reference]]) -> float:
    """Chi squared of predicted against right answers in each global group; 0 where no question is in one."""
    right: dict[str, Counter[str]] = defaultdict(Counter)
    predicted: dict[str, Counter[str]] = defaultdict(Counter)
    for prediction, reference in pairs:
        group = reference.meta.get("groups", {}).get("global")
        if group is not None:
            right[group][reference.answers[0]] += 1
            predicted[group][prediction] += 1
    total = sum(counts.total() for counts in right.values())
    distances = [
        counts.total()
        * sum((predicted[group][answer] - count) ** 2 / count for answer, count in counts.items())
        for group, counts in right.items()
    ]
    return sum(distances) / total / 100 if total else 0.0


GQA_ACCURACY = Metric(
    name="accuracy",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/vqa.py; official: the authors' "
    "eval.py (cs.stanford.edu/people/dorarad/gqa)",
    paligemma=exact_match,
    official=gqa_accuracy,
)
"""GQA and xGQA."""
