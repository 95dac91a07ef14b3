"""How the scores of answers compare with the golden files."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paligemma2.metrics.activitynet_qa import ACTIVITYNET_QA_ACCURACY, TYPES
from paligemma2.metrics.anls import ANLS, anls, anls_m4c
from paligemma2.metrics.answer_text import (
    PERIODS_REMOVED,
    m4c_text,
    normalize_words,
    strip_punctuation,
    vqa_text,
)
from paligemma2.metrics.exact import AOKVQA_MULTIPLE_CHOICE, EXACT_MATCH, EXACT_MATCH_LOWER
from paligemma2.metrics.gqa import GQA_ACCURACY
from paligemma2.metrics.nlvr2 import NLVR2_ACCURACY
from paligemma2.metrics.number_match import NUMBER_MATCH
from paligemma2.metrics.pope import POPE_ACCURACY
from paligemma2.metrics.relaxed import RELAXED_ACCURACY
from paligemma2.metrics.rsvqa import rsvqa_accuracy
from paligemma2.metrics.scienceqa import SCIENCEQA_ACCURACY, parse_letter
from paligemma2.metrics.scores import Reference, ScoreFunction, Scores
from paligemma2.metrics.segmentation import mask_meta, segmentation_iou
from paligemma2.metrics.vqa import (
    AOKVQA_DIRECT_ANSWER,
    OKVQA_ACCURACY,
    TEXTVQA_ACCURACY,
    VIZWIZ_ACCURACY,
    VQAV2_ACCURACY,
    shared_accuracy,
)
from tests.golden.metric_cases import Check, GoldenFile, Record

_WHY_INPUT = "says what the case is"


def one(score: ScoreFunction, prediction: str, answers: Sequence[str], **meta: Any) -> Scores:
    return score([prediction], [Reference(answers=tuple(answers), meta=meta)])


def corpus(answers: Sequence[Sequence[str]]) -> list[Reference]:
    return [Reference(answers=tuple(each)) for each in answers]


official = {"mode": "official"}


def vqa_normalize(file: GoldenFile) -> None:
    for case in file.cases:
        text = case["text"]
        case.check("punctuation", strip_punctuation(text, max_periods=PERIODS_REMOVED))
        case.check("digit_article", normalize_words(text))
        case.check("full", vqa_text(text, PERIODS_REMOVED))


def vqav2(file: GoldenFile) -> None:
    score = partial(VQAV2_ACCURACY, **official)
    references = []
    for case in file.cases:
        meta = {"question_type": case["question_type"], "answer_type": case["answer_type"]}
        references.append(Reference(answers=tuple(case["answers"]), meta=meta))
        case.check("expected", 100 * score([case["prediction"]], references[-1:]).value)
    if "aggregate_over_cases" not in file:
        return
    scores = score([case["prediction"] for case in file.cases], references)
    block = file["aggregate_over_cases"]
    block.check("overall", 100 * scores.value)
    for key, title in (("perQuestionType", "question type"), ("perAnswerType", "answer type")):
        ours = {name: scores.parts.get(f"{title}: {name}", -1) * 100 for name in block[key]}
        block.check(key, ours)


def bigvision_vqav2(file: GoldenFile) -> None:
    for case in file.cases:
        if "text" in case:
            case.check("expected_text", ours := vqa_text(case["text"]))
            case.check("official_text", theirs := vqa_text(case["text"], PERIODS_REMOVED))
            case.check("differs", ours != theirs)
        else:
            case.leave("answer_type", "question_type", why=_WHY_INPUT)
            asked = (case["prediction"], case["answers"])
            for metric in (VQAV2_ACCURACY, TEXTVQA_ACCURACY):
                case.check("expected_percent", 100 * one(metric, *asked).value)
            for metric in (VQAV2_ACCURACY, OKVQA_ACCURACY):
                case.check("official_percent", 100 * one(partial(metric, **official), *asked).value)
            differs = one(VQAV2_ACCURACY, *asked) != one(partial(VQAV2_ACCURACY, **official), *asked)
            case.check("differs", differs)


def aokvqa_da(file: GoldenFile) -> None:
    for case in file.cases:
        asked = (case["prediction"], case["direct_answers"])
        case.check("expected_percent", 100 * one(partial(AOKVQA_DIRECT_ANSWER, **official), *asked).value)
        for metric in (AOKVQA_DIRECT_ANSWER, OKVQA_ACCURACY):
            case.check("bigvision_acc", one(metric, *asked).value)
            case.check("bigvision_acc_any", one(metric, *asked).parts["any"])
    if "corpus_case" not in file:
        return
    block = file["corpus_case"]
    block.leave("note", why=_WHY_INPUT)
    given = block["predictions"]
    # The script reads {"multiple_choice": …, "direct_answer": …}, or one text for both; none is wrong.
    predictions = [given.get(row["question_id"]) for row in block["dataset"]]
    direct = [Reference(answers=tuple(row["direct_answers"]), meta=row) for row in block["dataset"]]
    chosen = [Reference(answers=(row["choices"][row["correct_choice_idx"]],)) for row in block["dataset"]]
    block.check(
        "expected_da_percent",
        100 * AOKVQA_DIRECT_ANSWER([_or_wrong(each) for each in predictions], direct, "official").value,
    )
    block.check(
        "expected_mc_percent",
        100 * AOKVQA_MULTIPLE_CHOICE([_or_wrong(each) for each in predictions], chosen, "official").value,
    )


def _or_wrong(prediction: str | None) -> str:
    return "\0" if prediction is None else prediction


def aokvqa_mc(file: GoldenFile) -> None:
    for case in file.cases:
        right = case["choices"][case["correct_choice_idx"]]
        for mode in ("paligemma", "official"):
            ours = one(partial(AOKVQA_MULTIPLE_CHOICE, mode=mode), case["prediction"], [right])
            case.check("expected_percent", 100 * ours.value)


def textvqa(file: GoldenFile) -> None:
    for case in file.cases:
        if "text" in case:
            case.check("expected_text", m4c_text(case["text"]))
        else:
            ours = one(partial(TEXTVQA_ACCURACY, **official), case["prediction"], case["gt_answers"])
            case.check("expected", ours.value)


def vizwiz(file: GoldenFile) -> None:
    for case in file.cases:
        asked = (case["prediction"], case["answers"])
        case.check("expected_percent", 100 * one(partial(VIZWIZ_ACCURACY, **official), *asked).value)
        # The evaluator was given all answers; without the empty ones, as on the card, it is the metric's own.
        case.check("bigvision_acc", one(shared_accuracy, *asked).value)
        if all(case["answers"]):
            case.check("bigvision_acc", one(VIZWIZ_ACCURACY, *asked).value)


def anls_of_questions(file: GoldenFile) -> None:
    for case in file.cases:
        asked = (case["prediction"], case["answers"])
        as_it_is = one(anls, *asked).value
        case.check("expected_rrc", one(partial(ANLS, **official), *asked).value)
        case.check("expected_mmf", one(anls_m4c, *asked).value)
        case.check("expected_pix2struct", as_it_is)
        case.check("expected_due", as_it_is)
        case.check("expected_bigvision_raw", as_it_is)
        case.check("expected_bigvision_lower", one(ANLS, *asked).value)


def chartqa(file: GoldenFile) -> None:
    for case in file.cases:
        ours = one(RELAXED_ACCURACY, case["prediction"], [case["target"]])
        case.check("expected", bool(ours.value))
        case.check("expected_bigvision", bool(ours.value))
        case.check("bigvision_exact", bool(ours.parts["exact"]))


def exact_match(file: GoldenFile) -> None:
    for case in file.cases:
        metric = EXACT_MATCH_LOWER if case["to_lower"] else EXACT_MATCH
        similarity = partial(anls, ignore_case=case["to_lower"])
        asked = (case["prediction"], [case["answer"]])
        case.check("expected_acc", one(metric, *asked).value)
        case.check("expected_anls", one(similarity, *asked).value)


def bigvision_vqa_multi(file: GoldenFile) -> None:
    for case in file.cases:
        references, ignore_case = corpus(case["answers"]), case["to_lower"]
        scores = shared_accuracy(case["predictions"], references, ignore_case=ignore_case)
        ours = {
            "acc": scores.value,
            "acc_any": scores.parts["any"],
            "anls": anls(case["predictions"], references, ignore_case=ignore_case).value,
            "num": len(scores.values),
        }
        case.check("expected", ours)


def gqa(file: GoldenFile) -> None:
    titles = {"structural": "structural type", "semantic": "semantic type", "steps": "steps number"}
    titles["words"] = "words number"
    disabled = "the copy of the script that was run prints 0 without computing it"
    for case in file.cases:
        case.leave("err", why="what the script wrote beside it")
        texts = {row["questionId"]: row["prediction"] for row in case["predictions"]}
        # An unbalanced question needs no prediction.
        predictions = [texts.get(name, "") for name in case["questions"]]
        references = [
            Reference(answers=(question["answer"],), meta=question) for question in case["questions"].values()
        ]
        scores = GQA_ACCURACY(predictions, references, "official")
        parts = scores.parts
        ours = {
            "Accuracy": [f"{100 * scores.value:.2f}"],
            "Binary": [f"{100 * parts.get('binary', 0):.2f}"],
            "Open": [f"{100 * parts.get('open', 0):.2f}"],
            "Distribution": [f"{parts['distribution']:.2f}"],
        }
        for name, value in parts.items():
            kind, _, label = name.partition(": ")
            if label and not label.endswith("/questions"):
                line = [f"{100 * value:.2f}", f"{parts[f'{name}/questions']:.0f}"]
                ours[f"Accuracy / {titles[kind]}: {label}"] = line
        names = ("Consistency", "Validity", "Plausibility", "Grounding")
        case.check_printed("expected_stdout", ours, leave=dict.fromkeys(names, disabled))


def nlvr2(file: GoldenFile) -> None:
    for case in file.cases:
        predictions = dict(case["predictions"])
        references = [
            Reference(answers=(label,), meta={"identifier": name}) for name, label in case["labels"]
        ]
        scores = NLVR2_ACCURACY([predictions[name] for name, _ in case["labels"]], references, "official")
        ours = {"accuracy": [scores.value], "consistency": [scores.parts["consistency"]]}
        case.check_printed("expected_stdout", ours)


def activitynet_qa(file: GoldenFile) -> None:
    for case in file.cases:
        predictions = {row["question_id"]: row["answer"] for row in case["predictions"]}
        references = [Reference(answers=(row["answer"],), meta={"type": row["type"]}) for row in case["gt"]]
        texts = [predictions.get(row["question_id"], "\0") for row in case["gt"]]
        scores = ACTIVITYNET_QA_ACCURACY(texts, references, "official")
        counts = {
            str(number): round(scores.parts.get(f"{name}/questions", 0)) for number, name in enumerate(TYPES)
        }
        case.check("expected_type_count", {name: count for name, count in counts.items() if count})
        case.check(
            "expected_corrects",
            {
                str(number): counts[str(number)] * scores.parts.get(name, 0)
                for number, name in enumerate(TYPES)
            },
        )
        printed = {name: [f"{value:.4f}"] for name, value in {**scores.parts, "all": scores.value}.items()}
        by_question, by_answer = (
            "Accuracy (per question type)",
            "Accuracy of the Free type questions(per answer type)",
        )
        ours = {f"{by_question}: {name.title()}": numbers for name, numbers in printed.items()}
        ours |= {f"{by_answer}: {name.title()}": numbers for name, numbers in printed.items()}
        case.check_printed("expected_stdout", ours)


def pope(file: GoldenFile) -> None:
    for case in file.cases:
        references = [Reference(answers=(label,)) for label in case["labels"]]
        scores = POPE_ACCURACY(case["answers"], references, "official")
        names = {
            "TP": "true_positives",
            "FP": "false_positives",
            "TN": "true_negatives",
            "FN": "false_negatives",
            "Precision": "precision",
            "Recall": "recall",
            "F1 score": "f1",
            "Yes ratio": "yes_ratio",
        }
        ours = {label: [scores.parts[name]] for label, name in names.items()}
        case.check_printed("expected_stdout", ours | {"Accuracy": [scores.value]})


def scienceqa(file: GoldenFile) -> None:
    for case in file.cases:
        ours = one(SCIENCEQA_ACCURACY, case["prediction"], [case["answer"]])
        case.check("parsed", parse_letter(case["prediction"]))
        case.check("expected_acc", ours.value)
        case.check("expected_parsefail", ours.parts["parse_failures"])


def tallyqa(file: GoldenFile) -> None:
    for case in file.cases:
        references = [
            Reference(answers=(answer,), meta={"issimple": is_simple})
            for answer, is_simple in zip(case["answers"], case["issimple"], strict=True)
        ]
        scores = NUMBER_MATCH(case["predictions"], references)
        ours = {"acc": scores.value, "num": len(scores.values)}
        for name, value in scores.parts.items():
            kind, _, count = name.partition("/")
            ours[f"num/{kind}" if count else f"acc/{kind}"] = value
        case.check("expected", ours)


def rsvqa(file: GoldenFile) -> None:
    for case in file.cases:
        references = [
            Reference(answers=tuple(answers), meta={"type": kind})
            for answers, kind in zip(case["answers"], case["question_type"], strict=True)
        ]
        predictions, ignore_case = case["predictions"], case["to_lower"]
        scores = rsvqa_accuracy(predictions, references, ignore_case=ignore_case)
        ours = {
            **scores.parts,
            "acc": shared_accuracy(predictions, references, ignore_case=ignore_case).value,
            "anls": anls(predictions, references, ignore_case=ignore_case).value,
            "acc_avg_nonum": scores.value,
            "num": len(scores.values),
        }
        case.check("expected", {key: ours.get(key) for key in case["expected"]})


def segmentation_miou(file: GoldenFile) -> None:
    for case in file.cases:
        height, width = case["gt_size_hw"]
        runs = case["gt_mask_rle_rowmajor_zeros_first"]
        mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        metric = segmentation_iou(partial(_procedural, case["mask64_params"]))
        reference = Reference(meta=mask_meta(mask, case["gt_bbox_yxyx_norm"]))
        scores = metric([_text(case)], [reference])
        total = len(scores.values)
        ours = {**scores.parts, "invalid": scores.parts["invalid"] * total, "total": total}
        case.check("expected", ours | {"miou": scores.value})


def _procedural(params: Mapping[str, float], codes: NDArray[np.int64]) -> NDArray[np.float32]:
    i, j = np.mgrid[:64, :64].astype(np.float32)
    ci, cj, ri, rj = (np.float32(params[name]) for name in ("ci", "cj", "ri", "rj"))
    mask = np.float32(1) - ((i - ci) / ri) ** 2 - ((j - cj) / rj) ** 2
    return np.repeat(mask[None], len(codes), axis=0)


def _text(case: Record) -> str:
    """The tokens as text; those that are neither locations nor mask tokens as some word."""
    locations, masks, words = case["loc0"], case["seg0"], []
    for token in case["tokens"]:
        if 0 <= token - locations < 1024:
            words.append(f"<loc{token - locations:04d}>")
        elif 0 <= token - masks < 128:
            words.append(f"<seg{token - masks:03d}>")
        else:
            words.append("word")
    return "".join(words)


CHECKS: Mapping[str, Check] = {
    "activitynet_qa": activitynet_qa,
    "anls": anls_of_questions,
    "aokvqa_da": aokvqa_da,
    "aokvqa_mc": aokvqa_mc,
    "bigvision_vqa_multi": bigvision_vqa_multi,
    "bigvision_vqav2": bigvision_vqav2,
    "chartqa": chartqa,
    "exact_match": exact_match,
    "gqa": gqa,
    "nlvr2": nlvr2,
    "pope": pope,
    "rsvqa": rsvqa,
    "scienceqa": scienceqa,
    "segmentation_miou": segmentation_miou,
    "tallyqa": tallyqa,
    "textvqa": textvqa,
    "vizwiz": vizwiz,
    "vqa_normalize": vqa_normalize,
    "vqav2": vqav2,
}
