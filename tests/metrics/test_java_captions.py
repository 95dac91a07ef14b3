import importlib
import shutil
import sys
from types import ModuleType

import pytest

from paligemma2.errors import InputError, MissingExtra, WorkError
from paligemma2.metrics import java_captions
from paligemma2.metrics.java_captions import meteor, spice

PREDICTIONS, REFERENCES = ["a cat", "a dog"], [["a cat on a mat", "the cat sat"], ["a dog"]]
MODULES = {meteor: "pycocoevalcap.meteor.meteor", spice: "pycocoevalcap.spice.spice"}


@pytest.mark.parametrize("score", MODULES)
def test_without_the_library_the_error_names_the_extra(
    score: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(MissingExtra, match="pycocoevalcap") as caught:
        score(PREDICTIONS, REFERENCES)
    assert "paligemma2[captions]" in caught.value.hint


@pytest.mark.parametrize("score", MODULES)
def test_without_java_the_error_says_how_to_get_it(score: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_captions, "require", lambda name, extra: ModuleType(name))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingExtra, match="java") as caught:
        score(PREDICTIONS, REFERENCES)
    assert "default-jre" in caught.value.hint


def test_a_download_that_fails_is_an_error_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise OSError("no network")

    module = ModuleType("pycocoevalcap.spice.spice")
    monkeypatch.setattr(module, "Spice", unreachable, raising=False)
    monkeypatch.setattr(java_captions, "require", lambda name, extra: module)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/java")
    with pytest.raises(WorkError, match="no network") as caught:
        spice(PREDICTIONS, REFERENCES)
    assert "network" in caught.value.hint


@pytest.mark.parametrize("score", MODULES)
def test_nothing_to_score_is_told_before_anything_is_started(score: object) -> None:
    with pytest.raises(InputError):
        score([], [])


def test_meteor_of_two_captions() -> None:
    if shutil.which("java") is None:
        pytest.skip("METEOR is a Java program, and there is no `java`")
    try:
        importlib.import_module(MODULES[meteor])
    except ModuleNotFoundError:
        pytest.skip("pycocoevalcap is not installed (extra `captions`)")
    scores = meteor(PREDICTIONS, REFERENCES)
    assert scores.values == pytest.approx((0.2315974118896124, 1.0))  # pycocoevalcap 1.2, METEOR 1.5
    assert scores.value == pytest.approx(0.35610450941837096)
