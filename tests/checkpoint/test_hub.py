import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paligemma2.checkpoint.hub import _explained, resolve
from paligemma2.errors import InputError
from tests.checkpoint.hub_stand_in import GOOD_TOKEN, HubStandIn

NAME = "google/paligemma2-3b-pt-224"
ASK = """
import json, logging, sys
logging.disable(logging.CRITICAL)
from paligemma2.checkpoint.hub import resolve
from paligemma2.errors import PaliGemmaError
for source in sys.argv[1:]:
    try:
        print(json.dumps({"path": str(resolve(source))}))
    except PaliGemmaError as error:
        kind = type(error).__name__
        print(json.dumps({"kind": kind, "message": error.message, "hint": error.hint}))
"""


def ask(endpoint: str, cache: Path, *sources: str, **environment: str) -> list[dict[str, str]]:
    """What `resolve` gives for each source, in a process whose hub is at `endpoint`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK, *sources],
        env=kept | settings | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer.model", "model.safetensors"):
        (folder / name).write_text(name)
    for name in ("pytorch_model.bin", "README.md", "model.gguf"):
        (folder / name).write_text("not wanted")
    return folder


def test_a_model_is_fetched_once_and_then_comes_from_the_cache(tmp_path: Path, model: Path) -> None:
    with HubStandIn({NAME: model}) as endpoint:
        first, same = ask(endpoint, tmp_path / "cache", NAME, f"{NAME}@main")
    folder = Path(first["path"])
    assert first == same
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
    ]
    assert (folder / "config.json").read_text() == "config.json"
    assert ask("http://127.0.0.1:9", tmp_path / "cache", NAME, HF_HUB_OFFLINE="1") == [first]


def test_every_refusal_says_what_to_do(tmp_path: Path, model: Path) -> None:
    names = {f"google/{kind}": model for kind in ("open", "gated", "forbidden", "broken")}
    with HubStandIn(
        names, gated=["google/gated"], forbidden=["google/forbidden"], broken=["google/broken"]
    ) as endpoint:
        told = ask(
            endpoint,
            tmp_path / "cache",
            "google/gated",
            "google/paligemma2-3b-pt-225",
            "google/open@v9",
            "google/forbidden",
            "google/broken",
        )
    gated, missing, revision, forbidden, broken = told
    assert {answer["kind"] for answer in told} == {"HubError"}
    assert not any("\n" in answer["message"] + answer["hint"] for answer in told)
    assert "gated" in gated["message"]
    assert f"{endpoint}/google/gated" in gated["hint"]
    assert "hf auth login" in gated["hint"]
    assert "HF_TOKEN" in gated["hint"]
    assert "neither a folder" in missing["message"]
    assert "google/paligemma2-3b-pt-224" in missing["hint"]
    assert "hf auth login" in missing["hint"]
    assert "'v9'" in revision["message"]
    assert "token" in forbidden["message"]
    assert "licence" in forbidden["hint"]
    assert "could not be reached" in broken["message"]


def test_a_token_opens_a_gated_model_only_when_it_was_accepted(tmp_path: Path, model: Path) -> None:
    with HubStandIn({NAME: model}, gated=[NAME]) as endpoint:
        refused = ask(endpoint, tmp_path / "cache", NAME, HF_TOKEN="hf_other")
        opened = ask(endpoint, tmp_path / "cache", NAME, HF_TOKEN=GOOD_TOKEN)
    assert "gated" in refused[0]["message"]
    assert "accept it at" in refused[0]["hint"]
    assert Path(opened[0]["path"]).is_dir()


def test_an_offline_or_absent_hub_says_so(tmp_path: Path) -> None:
    offline = ask("http://127.0.0.1:9", tmp_path / "cache", NAME, HF_HUB_OFFLINE="1")
    absent = ask("http://127.0.0.1:9", tmp_path / "cache", NAME)
    assert "HF_HUB_OFFLINE" in offline[0]["message"]
    assert "unset HF_HUB_OFFLINE" in offline[0]["hint"]
    assert "could not be reached" in absent[0]["message"]
    assert "network" in absent[0]["hint"]


def test_a_full_disk_is_told_apart_from_the_network() -> None:
    error = _explained(OSError(errno.ENOSPC, "No space left on device"), NAME, None)
    assert "the disk is full" in error.message
    assert "HF_HOME" in error.hint


def test_what_lies_here_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "a.npz").touch()
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/name") == Path("owner/name")
    assert resolve(tmp_path) == tmp_path
    assert resolve("a.npz") == Path("a.npz")


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("paligemma2-3b-pt-224", "use 'google/paligemma2-3b-pt-224'"),
        ("paligema2-10b-mix-448", "did you mean 'google/paligemma2-10b-mix-448'?"),
        ("./somewhere/paligemma2-3b-pt-225", "did you mean 'google/paligemma2-3b-pt-224'?"),
        ("nonsense", "give a folder, an .npz file, or a hub id such as 'google/paligemma2-"),
        ("folder/missing.npz", "give a folder"),
        ("a/b/c", "give a folder"),
        ("", "give a folder"),
        (Path("owner/name"), "give a folder"),
    ],
)
def test_a_name_that_is_nothing_gets_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | Path, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no checkpoint at") as raised:
        resolve(source)
    assert hint in raised.value.hint


def test_a_file_that_is_no_npz_points_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match="not a big_vision") as raised:
        resolve(tmp_path / "model.safetensors")
    assert str(tmp_path) in raised.value.hint
