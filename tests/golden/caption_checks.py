"""How the scores of captions compare with the golden files."""

from collections.abc import Mapping

from paligemma2.metrics.bleu import bleu
from paligemma2.metrics.caption import CIDER, tokenize_references
from paligemma2.metrics.cider import cider
from paligemma2.metrics.ptb_tokenizer import tokenize
from paligemma2.metrics.rouge import rouge_l
from paligemma2.metrics.scores import Reference
from tests.golden.metric_cases import Check, GoldenFile, Record


def ptb_tokenizer(file: GoldenFile) -> None:
    for case in file.cases:
        case.check("expected", tokenize([case["caption"]])[0])


def caption_metrics(file: GoldenFile) -> None:
    """Each case is a corpus; its captions are scored as written, and again from the stored tokens."""
    file.leave("published_fakecap_coco_val2014", why="a remark, not numbers")
    for case in file.cases:
        images, expected = list(case["references"]), case["expected"]
        predictions = [case["hypotheses"][image] for image in images]
        references = [case["references"][image] for image in images]
        check_corpus(expected, images, tokenize(predictions), tokenize_references(references))
        scores = CIDER(predictions, [Reference(answers=tuple(captions)) for captions in references])
        expected.check("cider", scores.value)
        expected.check("cider_per_image", dict(zip(images, scores.values, strict=True)))
        expected.check("bleu", [scores.parts[f"BLEU-{length}"] for length in range(1, 5)])
        expected.check("rouge_l", scores.parts["ROUGE-L"])
        case.leave("name", "language", "data_licence", why="they say what the case is")


def check_corpus(
    expected: Record, images: list[str], predictions: list[str], references: list[list[str]]
) -> None:
    """The tokens, and each score of the stored tokens."""
    expected.check("tokenized_hyps", dict(zip(images, predictions, strict=True)))
    expected.check("tokenized_refs", dict(zip(images, references, strict=True)))
    predictions = [expected["tokenized_hyps"][image] for image in images]
    references = [expected["tokenized_refs"][image] for image in images]
    words = bleu(predictions, references)
    expected.check("bleu", list(words.corpus))
    expected.check("bleu_per_image", dict(zip(images, words.per_image, strict=True)))
    expected.check("rouge_per_image", dict(zip(images, rouge_l(predictions, references), strict=True)))
    expected.check("cider_per_image", dict(zip(images, cider(predictions, references), strict=True)))


CHECKS: Mapping[str, Check] = {
    "ptb_tokenizer": ptb_tokenizer,
    "caption_metrics": caption_metrics,
    "caption_metrics_multilingual": caption_metrics,
}
