"""How long captions take to score, and whether pycocoevalcap says the same.

    python benchmarks/caption_speed.py --images 5000 --output benchmarks/results/caption_speed.json

The captions are sentences of a small grammar with the punctuation, contractions and numbers of real ones. The
same go through pycocoevalcap where it is installed (extra `captions`; its tokenizer needs a Java runtime).
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import platform
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paligemma2.metrics.bleu import bleu
from paligemma2.metrics.caption import tokenize_references
from paligemma2.metrics.cider import cider
from paligemma2.metrics.ptb_tokenizer import tokenize
from paligemma2.metrics.rouge import rouge_l

SUBJECTS = [
    "a man",
    "two dogs",
    "the girl's cat",
    "an old woman",
    "3 boys",
    "somebody",
    "a black-and-white cow",
    "Mr. Smith",
]
VERBS = [
    "is riding",
    "are sitting on",
    "isn't near",
    "holds",
    "stands next to",
    "looks at",
    "can't see",
    "is eating",
]
OBJECTS = [
    "a bike",
    "the table",
    "a slice of pizza",
    "an umbrella",
    "a $5.00 sign",
    "the fire hydrant",
    "a frisbee",
]
PLACES = ["in the park", "on a street", "at 10:30 a.m.", "(outside)", "in front of a house", "near the beach"]
ENDS = [". ", " .", "!", "", " , and smiles.", " -- it's nice.", ", while others wait."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(0)
    references = [[caption(rng) for _ in range(arguments.references)] for _ in range(arguments.images)]
    predictions = [caption(rng) for _ in range(arguments.images)]
    tokenize(["a"])  # makes the rules once
    ours = measure(our_steps(), predictions, references)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "images": arguments.images,
        "references": arguments.references,
        "seconds": {"paligemma2": ours["seconds"]},
    }
    if importlib.util.find_spec("pycocoevalcap") and shutil.which("java"):
        theirs = measure(their_steps(), predictions, references)
        report["seconds"]["pycocoevalcap"] = theirs["seconds"]
        report["largest difference"] = differences(ours["results"], theirs["results"])
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", "utf-8")


def caption(rng: random.Random) -> str:
    parts = [rng.choice(words) for words in (SUBJECTS, VERBS, OBJECTS, PLACES)]
    return " ".join(parts).capitalize() + rng.choice(ENDS)


Steps = dict[str, Callable[[Any, Any], Any]]


def our_steps() -> Steps:
    return {
        "tokens": lambda predictions, references: (tokenize(predictions), tokenize_references(references)),
        "CIDEr-D": cider,
        "BLEU": lambda predictions, references: bleu(predictions, references).corpus,
        "ROUGE-L": rouge_l,
    }


def their_steps() -> Steps:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def tokens(predictions: list[str], references: list[list[str]]) -> tuple[list[str], list[list[str]]]:
        lists = ([[text] for text in predictions], references)
        ours, theirs = (
            PTBTokenizer().tokenize({i: [{"caption": text} for text in some] for i, some in enumerate(texts)})
            for texts in lists
        )
        return [some[0] for some in ours.values()], list(theirs.values())

    def score(scorer: Any, predictions: list[str], references: list[list[str]]) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return scorer.compute_score(
                dict(enumerate(references)), {i: [text] for i, text in enumerate(predictions)}
            )

    return {
        "tokens": tokens,
        "CIDEr-D": lambda predictions, references: score(Cider(), predictions, references)[1],
        "BLEU": lambda predictions, references: score(Bleu(4), predictions, references)[0],
        "ROUGE-L": lambda predictions, references: score(Rouge(), predictions, references)[1],
    }


def measure(steps: Steps, predictions: list[str], references: list[list[str]]) -> dict[str, dict[str, Any]]:
    """The seconds and the result of each step; the scores read the tokens."""
    seconds, results, given = {}, {}, (predictions, references)
    for name, step in steps.items():
        started = time.perf_counter()
        results[name] = step(*given)
        seconds[name] = round(time.perf_counter() - started, 3)
        if name == "tokens":
            given = results[name]
    seconds["all"] = round(sum(seconds.values()), 3)
    return {"seconds": seconds, "results": results}


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    numbers = {
        name: max(abs(one - other) for one, other in zip(ours[name], theirs[name], strict=True))
        for name in ("CIDEr-D", "BLEU", "ROUGE-L")
    }
    lines = [
        (ours["tokens"][0], theirs["tokens"][0]),
        *zip(ours["tokens"][1], theirs["tokens"][1], strict=True),
    ]
    different = sum(one != other for some, others in lines for one, other in zip(some, others, strict=True))
    return {
        "captions with other tokens": different,
        **{name: float(value) for name, value in numbers.items()},
    }


if __name__ == "__main__":
    main()
