"""METEOR and SPICE, which exist in Java only: computed by `pycocoevalcap` (extra `captions`)."""

import contextlib
import io
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from types import ModuleType

from paligemma2.errors import MissingExtra, WorkError
from paligemma2.metrics.ngrams import check_references
from paligemma2.metrics.scores import Scores
from paligemma2.optional import require

_EXTRA = "captions"


def meteor(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """METEOR 1.5 of captions, 0 to 1; `value` is that of the corpus, which is not the mean of `values`.

    Args:
        predictions: one caption of each image, its tokens parted by white space (`ptb_tokenizer.tokenize`).
        references: at least one caption of each image, in the same form.

    Raises:
        InputError: see `ngrams.check_references`.
        MissingExtra: `pycocoevalcap` or Java is not installed.
        WorkError: the Java program failed.
    """
    check_references(predictions, references)
    scorer = _java_module("pycocoevalcap.meteor.meteor").Meteor()
    try:
        value, values = scorer.compute_score(*_by_number(predictions, references))
    except (OSError, ValueError) as error:
        raise _failed("METEOR", error) from error
    finally:
        for stream in (scorer.meteor_p.stdout, scorer.meteor_p.stderr):
            stream.close()
    return Scores(value=float(value), values=tuple(map(float, values)))


def spice(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """SPICE of captions, 0 to 1: F-score of the objects, attributes and relations that they name.

    The first call downloads Stanford's parser (400 MB) into the folder of `pycocoevalcap`. SPICE 1.0 was
    written for Java 8 and may take 8 GB of memory.

    Args:
        predictions: one caption of each image, its tokens parted by white space (`ptb_tokenizer.tokenize`).
        references: at least one caption of each image, in the same form.

    Raises:
        InputError: see `ngrams.check_references`.
        MissingExtra: `pycocoevalcap` or Java is not installed.
        WorkError: the parser could not be downloaded, or the Java program failed.
    """
    check_references(predictions, references)
    module = _java_module("pycocoevalcap.spice.spice")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how the download goes
            value, images = module.Spice().compute_score(*_by_number(predictions, references))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _failed("SPICE", error) from error
    return Scores(value=float(value), values=tuple(float(image["All"]["f"]) for image in images))


def _java_module(name: str) -> ModuleType:
    module = require(name, extra=_EXTRA)
    if shutil.which("java") is None:
        raise MissingExtra(
            "this score is a Java program, and no `java` is on the PATH",
            hint="install one, as by `apt install default-jre-headless`; CIDEr, BLEU and ROUGE need none",
        )
    return module


def _by_number(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Mapping[int, list[str]], Mapping[int, list[str]]]:
    """References and predictions in the form of pycocoevalcap."""
    return dict(enumerate(map(list, references))), {number: [text] for number, text in enumerate(predictions)}


def _failed(name: str, error: Exception) -> WorkError:
    return WorkError(
        f"{name} failed: {error}",
        hint="see whether `java` has enough memory; SPICE also needs the network once, and Java 8",
    )
