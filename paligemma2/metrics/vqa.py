"""Accuracy where ten people answered each question: VQAv2, TextVQA, VizWiz, OK-VQA and A-OKVQA.

An answer that three people gave is right (Antol et al. 2015, arXiv:1505.00468, section 4). The scripts differ
in two things: what they do to the texts before they compare them, and whether each person is left out once:

| | big_vision, for the card | the data set's script |
| --- | --- | --- |
| VQAv2 | normalised unless all agree; each left out | the same with at most 32 periods removed |
| TextVQA | as VQAv2 | M4C's processor, always; each left out |
| VizWiz | as they are, empty answers dropped | only the prediction is normalised; each left out |
| OK-VQA | as they are | as VQAv2 |
| A-OKVQA | as they are | as they are; difficult questions left out |

An example without answers counts nowhere. Where the scripts insist on ten answers, ours take any number.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from paligemma2.metrics.answer_text import PERIODS_REMOVED, m4c_text, strip_answer, vizwiz_text, vqa_text
from paligemma2.metrics.scores import Metric, Reference, Scores, answered, part_scores, scored

_ENOUGH = 3  # people that gave an answer make it right
_BIG_VISION = "google-research/big_vision, evaluators/proj/paligemma/transfers"
_VQA_SCRIPT = "GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py"


def vqa_accuracy(
    predictions: Sequence[str], references: Sequence[Reference], *, max_periods: int = 0
) -> Scores:
    """The accuracy of VQAv2; texts are normalised only where the stripped answers are not all equal.

    Args:
        predictions: what the model wrote.
        references: of each prediction; `meta` may have `answer_type` and `question_type`.
        max_periods: how many periods of a text are removed at most; 0 for all of them.

    Returns:
        Scores whose parts are the accuracies of each "answer type: …" and "question type: …".

    Raises:
        InputError: no example has an answer.
    """
    values = [
        _vqa_value(prediction, reference.answers, max_periods)
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    parts = {}
    for kind in ("answer_type", "question_type"):
        title = kind.replace("_", " ")
        names = [
            f"{title}: {reference.meta[kind]}" if reference.answers and kind in reference.meta else ""
            for reference in references
        ]
        parts.update(part_scores(values, names))
    return scored(values, groups=answered(references), parts=parts)


def textvqa_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The accuracy of TextVQA's script: all texts go through M4C's processor (`TextVQAAccuracyEvaluator`).

    Raises:
        InputError: no example has an answer.
    """
    return _leave_one_out_scores(predictions, references, m4c_text, m4c_text)


def vizwiz_accuracy(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """The accuracy of VizWiz' script, which normalises the prediction and takes the answers as they are.

    A prediction in capitals can so be right, and an answer in capitals can never be given.

    Raises:
        InputError: no example has an answer.
    """
    return _leave_one_out_scores(predictions, references, vizwiz_text, str)


def shared_accuracy(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    ignore_case: bool = False,
    drops_empty: bool = False,
) -> Scores:
    """The share of three people that gave the predicted answer, at most 1; nothing is normalised.

    big_vision's `transfers/vqa.py` with several answers, and A-OKVQA's script.

    Args:
        predictions: what the model wrote.
        references: of each prediction; only `answers` is read.
        ignore_case: compare both sides in lower case.
        drops_empty: empty answers do not count (as big_vision prepares VizWiz).

    Returns:
        Scores with the part "any": the share of predictions that at least one person gave.

    Raises:
        InputError: no example has an answer.
    """
    change: Callable[[str], str] = str.lower if ignore_case else str
    if drops_empty:
        references = [
            Reference(answers=tuple(filter(None, reference.answers)), unit=reference.unit)
            for reference in references
        ]
    matches = [
        [change(answer) for answer in reference.answers].count(change(prediction))
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    groups = answered(references)
    any_matches = scored([float(count > 0) for count in matches], groups=groups).value
    return scored([min(1.0, count / _ENOUGH) for count in matches], groups=groups, parts={"any": any_matches})


def aokvqa_direct_answer(predictions: Sequence[str], references: Sequence[Reference]) -> Scores:
    """A-OKVQA's script: `shared_accuracy` without the questions whose `meta` has `difficult_direct_answer`.

    Those are in no group.

    Raises:
        InputError: no example that counts has an answer.
    """
    values = shared_accuracy(predictions, references).values
    groups = [
        "all" if reference.answers and not reference.meta.get("difficult_direct_answer") else ""
        for reference in references
    ]
    return scored(values, groups=groups if "" in groups else ())


def _vqa_value(prediction: str, answers: Sequence[str], max_periods: int) -> float:
    prediction, stripped = strip_answer(prediction), [strip_answer(answer) for answer in answers]
    if len(set(stripped)) > 1:
        prediction = vqa_text(prediction, max_periods)
        stripped = [vqa_text(answer, max_periods) for answer in stripped]
    return leave_one_out(stripped.count(prediction), len(stripped))


def _leave_one_out_scores(
    predictions: Sequence[str],
    references: Sequence[Reference],
    change_prediction: Callable[[str], str],
    change_answer: Callable[[str], str],
) -> Scores:
    values = [
        leave_one_out(
            [change_answer(answer) for answer in reference.answers].count(change_prediction(prediction)),
            len(reference.answers),
        )
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return scored(values, groups=answered(references))


@lru_cache
def leave_one_out(num_matches: int, num_answers: int) -> float:
    """The mean over all people of the accuracy against the others: min(1, matches among the others / 3).

    Args:
        num_matches: people that gave the predicted answer.
        num_answers: people that answered; 0 gives 0.
    """
    if not num_answers:
        return 0.0
    without_a_match = num_matches * min(1.0, (num_matches - 1) / _ENOUGH)
    without_another = (num_answers - num_matches) * min(1.0, num_matches / _ENOUGH)
    return (without_a_match + without_another) / num_answers


VQAV2_ACCURACY = Metric(
    name="VQA accuracy",
    source=f"{_BIG_VISION}/vqav2.py; official: {_VQA_SCRIPT}",
    paligemma=vqa_accuracy,
    official=partial(vqa_accuracy, max_periods=PERIODS_REMOVED),
)
TEXTVQA_ACCURACY = Metric(
    name="VQA accuracy",
    source=f"{_BIG_VISION}/vqav2.py; official: facebookresearch/mmf, mmf/utils/m4c_evaluators.py",
    paligemma=vqa_accuracy,
    official=textvqa_accuracy,
)
VIZWIZ_ACCURACY = Metric(
    name="VQA accuracy",
    source=f"{_BIG_VISION}/vqa.py; official: Qing Li's VizWiz API as TRI-ML/vlm-evaluation has it",
    paligemma=partial(shared_accuracy, drops_empty=True),
    official=vizwiz_accuracy,
)
OKVQA_ACCURACY = Metric(
    name="VQA accuracy",
    source=f"{_BIG_VISION}/vqa.py; official: {_VQA_SCRIPT}",
    paligemma=shared_accuracy,
    official=partial(vqa_accuracy, max_periods=PERIODS_REMOVED),
)
AOKVQA_DIRECT_ANSWER = Metric(
    name="direct-answer accuracy",
    source=f"{_BIG_VISION}/vqa.py; official: allenai/aokvqa, evaluation/eval_predictions.py",
    paligemma=shared_accuracy,
    official=aokvqa_direct_answer,
)
