"""What `import paligemma2` and `--help` cost, and what the package offers."""

import os
import subprocess
import sys

import pytest

import paligemma2
from paligemma2 import errors

# Processor seconds, not those of the clock: other programs on the machine must not fail the test.
LIMIT_SECONDS = 0.5
VERBS = (
    "predict",
    "transfer",
    "sweep",
    "evaluate",
    "tasks",
    "inspect",
    "convert",
    "demo",
    "pretrain",
    "data check",
    "data convert",
)
HELP = """
import sys
from paligemma2.cli.main import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"torch", "numpy", "PIL", "tokenizers", "huggingface_hub"} & set(sys.modules)
    assert not heavy, heavy
"""


def cpu_seconds_of(*words: str) -> tuple[float, str]:
    """The least of three runs, after one that fills the caches of the file system."""
    times = []
    for _ in range(4):
        before = os.times()
        ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        after = os.times()
        assert ended.returncode == 0, ended.stderr
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        times.append(spent)
    return min(times[1:]), ended.stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([*verb.split(), "--help"] for verb in VERBS)])
def test_help_needs_no_heavy_library_and_half_a_second_at_most(words: list[str]) -> None:
    seconds, out = cpu_seconds_of("-c", HELP, *words)
    assert "paligemma2" in out
    assert seconds < LIMIT_SECONDS


def test_importing_the_package_is_cheap() -> None:
    program = "import sys, paligemma2; dir(paligemma2); sys.exit('torch' in sys.modules)"
    seconds, _ = cpu_seconds_of("-c", program)
    assert seconds < LIMIT_SECONDS


def test_every_public_name_exists() -> None:
    assert set(paligemma2.__all__) <= set(dir(paligemma2))
    for name in paligemma2.__all__:
        assert getattr(paligemma2, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        paligemma2.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InputError, 2),
        (errors.ImageError, 2),
        (errors.ConfigError, 2),
        (errors.CheckpointError, 2),
        (errors.HubError, 2),
        (errors.DataError, 2),
        (errors.MissingExtra, 2),
        (errors.WorkError, 1),
    ],
)
def test_every_error_has_its_exit_code(kind: type[errors.PaliGemmaError], code: int) -> None:
    error = kind("what", hint="do")
    assert (error.exit_code, str(error)) == (code, "what (do)")


def test_a_stop_request_has_the_exit_code_of_its_signal() -> None:
    codes = [errors.Interrupted("stopped", signal_number=number).exit_code for number in (2, 15)]
    assert codes == [130, 143]
