"""What the documents say is true: their commands and scripts run, their table has the measured scores.

Lines that take long or change the machine are checked without being run; lines with a hub id run against a
stand-in of the hub on this machine that serves a small random model.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paligemma2.assets import MASK_CODEC_FOLDER, PICTURES_FOLDER, TINY_FOLDER
from paligemma2.checkpoint.config_json import read_config
from paligemma2.model.config import preset
from paligemma2.model.memory import inference_memory
from tests.checkpoint.hub_stand_in import HubStandIn
from tests.coco_parts import write_coco_parts
from tests.small_adapter import save_random_adapter
from tests.small_model import save_picture, save_small_model
from tests.small_results import save_run, small_result
from tests.small_video import save_clip

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in PROJECT.glob("docs/*.md"))]
HUB_ID = "google/paligemma2-3b-pt-224"
MEASURES = {
    "caption": "captions, word for word",
    "vqa": "questions, exact answers",
    "detection": "detection, mean box IoU",
    "segmentation": "segmentation, mean mask IoU",
    "words": "words read without a mistake",
    "letters": "letters read",
    "pairs": "questions about two pictures",
}
needs_tiny = pytest.mark.skipif(not TINY_FOLDER.is_dir(), reason="the package has no trained model yet")


def blocks(document: str, language: str) -> list[str]:
    text = (PROJECT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lines(document: str) -> list[str]:
    return [line for block in blocks(document, "bash") for line in block.splitlines() if line.strip()]


def is_only_checked(line: str) -> bool:
    verbs = ("paligemma2 evaluate", "paligemma2 transfer")
    needs_data_set = line.startswith(verbs) and " --task " in line
    return not line.startswith("paligemma2 ") or line.startswith("paligemma2 pretrain") or needs_data_set


ALL_LINES = [line for document in DOCUMENTS for line in lines(document)]
CHECKED = sorted({line for line in ALL_LINES if is_only_checked(line)})
HUB_LINES = sorted({line for line in ALL_LINES if HUB_ID in line})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the documents take for granted."""
    save_picture(tmp_path / "picture.jpg")
    for name in ("first.png", "second.png", "pictures/a.png", "pictures/b.png"):
        save_picture(tmp_path / name)
    for name in ("clip.mp4", "clips/a.mp4", "clips/b.mp4"):
        save_clip(tmp_path / name)
    for part, count, first_seed in (("train", 4, 0), ("valid", 2, 4)):
        rows = []
        for i in range(count):
            save_picture(tmp_path / "my_data" / f"{part}{i}.png", seed=first_seed + i)
            rows.append(
                json.dumps({"image": f"{part}{i}.png", "prefix": "sort the part", "suffix": "bin B3"})
            )
        (tmp_path / "my_data" / f"_annotations.{part}.jsonl").write_text("\n".join(rows))
    save_run(tmp_path / "runs" / "colours", small_result())
    write_coco_parts(tmp_path / "my_coco", train=24, valid=8)
    if TINY_FOLDER.is_dir():
        for seed, name in enumerate(("my_adapter", "other_adapter")):
            save_random_adapter(tmp_path / name, read_config(TINY_FOLDER), seed=seed)
    (tmp_path / "work").mkdir()
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"} | more


def succeed(command: list[str], folder: Path, environ: dict[str, str]) -> str:
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def paligemma2(words: list[str]) -> list[str]:
    if words[0] in ("transfer", "sweep"):  # its hundreds of steps are not what is tested here
        words = [*words, "--steps", "2"]
    return [sys.executable, "-m", "paligemma2", *words]


def test_the_documents_have_commands() -> None:
    assert len(ALL_LINES) > 20
    assert len(CHECKED) >= 5
    assert len(HUB_LINES) >= 2


@pytest.mark.parametrize("line", CHECKED)
def test_a_line_that_is_not_run_names_what_exists(line: str) -> None:
    words = shlex.split(line, comments=True)
    match words:
        case ["make", target]:
            succeed(["make", "-n", target], PROJECT, environment())
        case ["python3", "-m", "pip", "install", what]:
            extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
            assert extra is not None, what
            project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            assert extra[1] in {None, *project["optional-dependencies"]}
        case ["hf", *verb]:
            succeed([str(Path(sys.executable).with_name("hf")), *verb, "--help"], PROJECT, environment())
        case ["paligemma2" as program, verb, *arguments] | [
            "torchrun" as program,
            "--nproc-per-node",
            _,
            "-m",
            "paligemma2",
            verb,
            *arguments,
        ]:
            assert Path(sys.executable).with_name(program).exists()
            text = succeed([sys.executable, "-m", "paligemma2", verb, "--help"], PROJECT, environment())
            assert all(word.split("=")[0] in text for word in arguments if word.startswith("--"))
        case _:
            pytest.fail(f"there is no rule for {line!r}")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = save_small_model(tmp_path_factory.mktemp("hub") / "model")
    with HubStandIn({HUB_ID: model}) as endpoint:
        yield endpoint


@pytest.mark.parametrize("line", HUB_LINES)
def test_a_line_with_a_hub_id_runs_against_the_stand_in(line: str, hub: str, folder: Path) -> None:
    environ = environment(HF_ENDPOINT=hub, HF_HOME=str(folder / "cache"), HF_HUB_DISABLE_XET="1")
    succeed(paligemma2(shlex.split(line)[1:]), folder, environ)
    assert (folder / "drawn").is_dir() == ("--annotate" in line)


@pytest.mark.slow
@needs_tiny
@pytest.mark.parametrize("document", [name for name in DOCUMENTS if set(lines(name)) - set(CHECKED)])
def test_the_other_lines_of_a_document_run_in_their_order_and_then_its_scripts(
    document: str, folder: Path
) -> None:
    for line in lines(document):
        if line not in CHECKED and line not in HUB_LINES:
            succeed(paligemma2(shlex.split(line)[1:]), folder, environment())
    for script in blocks(document, "python"):
        succeed([sys.executable, "-c", script], folder, environment())


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_within_the_project_lead_somewhere(document: str) -> None:
    path = PROJECT / document
    targets = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (path.parent / t).exists()] == []


def test_the_json_lines_of_the_readme_are_json() -> None:
    for block in blocks("README.md", "json"):
        assert {"image", "prefix", "suffix"} == set(json.loads(block))


def score_table(record: Path) -> str:
    scores = json.loads(record.read_text(encoding="utf-8"))["scores"]
    own, other = scores["test"], scores["test_other_style"]
    rows = [f"| {label} | {own[name]:.3f} | {other[name]:.3f} |" for name, label in MEASURES.items()]
    return "\n".join(["| task | same style | other style |", "| --- | ---: | ---: |", *rows])


@pytest.mark.skipif(
    not (TINY_FOLDER / "pretraining.json").is_file(), reason="the package has no trained model yet"
)
def test_the_table_of_the_readme_has_the_measured_scores() -> None:
    _, table, _ = (PROJECT / "README.md").read_text(encoding="utf-8").split("<!-- scores -->")
    assert table.strip() == score_table(TINY_FOLDER / "pretraining.json")


@needs_tiny
def test_the_picture_of_the_readme_is_what_the_small_model_makes(tmp_path: Path) -> None:
    (prompt,) = re.findall(r'--prompt "([^"]+)" --annotate …', (PROJECT / "README.md").read_text("utf-8"))
    picture = PICTURES_FOLDER / "shapes.png"
    succeed(
        paligemma2(["predict", "--prompt", prompt, "--annotate", str(tmp_path), str(picture)]),
        tmp_path,
        environment(),
    )
    with Image.open(tmp_path / "shapes.png") as made, Image.open(PROJECT / "docs/shapes.png") as shown:
        # Another Pillow may smooth edges otherwise; another box or mask moves far more.
        assert np.abs(np.int16(made) - np.int16(shown)).mean() < 0.5


def codec_table(record: Path) -> str:
    scores = json.loads(record.read_text(encoding="utf-8"))["scores"]
    rows = [
        f"| {name} | {each['iou']:.3f} | {each['iou_fifth_swapped']:.3f} |" for name, each in scores.items()
    ]
    header = [
        "| figures | all codes right | a fifth of them swapped for near ones |",
        "| --- | ---: | ---: |",
    ]
    return "\n".join([*header, *rows])


def test_the_table_of_the_mask_codec_has_the_measured_scores() -> None:
    _, table, _ = (PROJECT / "docs/boxes-and-masks.md").read_text(encoding="utf-8").split("<!-- codec -->")
    assert table.strip() == codec_table(MASK_CODEC_FOLDER / "pretraining.json")


def memory_table() -> str:
    rows = [
        "| input | prompt tokens | weights | KV cache | activations |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    cases = {
        "one picture, 896 px": (896, 1),
        "16 frames, 224 px": (224, 16),
        "two pictures, 224 px": (224, 2),
    }
    for name, (side, images) in cases.items():
        config = preset(f"paligemma2-3b-pt-{side}")
        tokens = images * config.num_image_tokens + 8
        plan = inference_memory(
            config, batch=1, images=images, prompt_tokens=tokens, max_new_tokens=64, dtype=torch.bfloat16
        )
        megabytes = (plan.weights, plan.kv_cache, plan.activations)
        rows.append(
            " | ".join((f"| {name}", str(tokens), *(f"{each / 1e6:.0f}" for each in megabytes))) + " |"
        )
    return "\n".join(rows)


def test_the_table_of_memory_has_the_stated_bytes() -> None:
    _, table, _ = (PROJECT / "docs/video.md").read_text(encoding="utf-8").split("<!-- memory -->")
    assert table.strip() == memory_table()
