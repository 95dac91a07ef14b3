"""`paligemma2 predict`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from paligemma2.cli.options import Model
from paligemma2.cli.terminal import bytes_bar, count_bar, print_error, print_note
from paligemma2.errors import InputError

if TYPE_CHECKING:
    from paligemma2.inference.predictor import Dtype
    from paligemma2.jobs.predict import Answer, PredictConfig

_BAR_FROM_BYTES = 200_000_000
_SHOWN = 3


def predict(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, or folders of pictures.", show_default=False)
    ] = None,
    model: Model = "tiny",
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt", "-p", help="'caption en', 'ocr', 'answer en QUESTION', 'detect THING ; THING', …"
        ),
    ] = "",
    together: Annotated[
        bool, typer.Option("--together", help="Ask once about all pictures, in order.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    annotate: Annotated[
        Path | None,
        typer.Option(
            "--annotate", help="Write pictures with the found boxes into this folder.", metavar="FOLDER"
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Stop an answer after so many tokens.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures to ask about at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
) -> None:
    """Ask a model about pictures.

    For one picture the text is written as it is decoded; for several, or a folder, a line
    'picture TAB answer' for each.
    """
    if not images:
        raise InputError(
            "no image", hint="name a picture or a folder, as in `paligemma2 predict -p 'caption en' a.png`"
        )
    from paligemma2.jobs.predict import PredictConfig, find_pictures

    config = PredictConfig(
        images=find_pictures(images),
        model=model,
        prompt=prompt,
        together=together,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        device=device,
        dtype=cast("Dtype", dtype),
        annotate=annotate,
    )
    is_single = len(config.requests) == 1 and (together or not images[0].is_dir())
    output = _Output(config, as_json=as_json, is_single=is_single)
    code = _run(config, output, streams=is_single and not as_json)
    output.summarize()
    if code:
        raise typer.Exit(code)


def _run(config: "PredictConfig", output: "_Output", *, streams: bool) -> int:
    """Print the answers; the exit code is that of the last picture that could not be read, else 0."""
    from paligemma2.jobs.predict import Failure, run

    code = 0
    total = len(config.requests)
    with bytes_bar("loading", least_bytes=_BAR_FROM_BYTES) as on_load, count_bar("predict", total) as advance:
        for result in run(config, on_load=on_load, on_text=_write if streams else None):
            if isinstance(result, Failure):
                code = print_error(result.error)
            else:
                output.write(result)
            advance()
    return code


class _Output:
    """Writes answers to stdout, each at once, and remembers what is worth a note at the end."""

    def __init__(self, config: "PredictConfig", *, as_json: bool, is_single: bool) -> None:
        self._config = config
        self._as_json = as_json
        self._is_single = is_single
        self._cut: list[Path] = []

    def write(self, answer: "Answer") -> None:
        if self._as_json:
            _write(json.dumps(_as_json(answer, self._config.prompt), ensure_ascii=False) + "\n")
            return
        if self._is_single:
            _write("\n")  # the text is there already
        else:
            _write(f"{answer.images[0]}\t{_on_one_line(answer.generation.text)}\n")
        if answer.generation.finish_reason == "length":
            self._cut.append(answer.images[0])
        if self._is_single and not answer.generation.text:
            print_note("note", "the answer is empty")
        if self._is_single and answer.annotated is not None:
            print_note("note", f"{len(answer.parsed.detections)} boxes drawn in {answer.annotated}")

    def summarize(self) -> None:
        """Say which answers were cut at the limit."""
        if not self._cut:
            return
        limit = f"{self._config.max_new_tokens} tokens; give a larger --max-new-tokens"
        if self._is_single:
            print_note("note", f"the answer was cut at {limit}")
            return
        names = ", ".join(map(str, self._cut[:_SHOWN])) + (", …" if len(self._cut) > _SHOWN else "")
        print_note(
            "note", f"{len(self._cut)} of {len(self._config.requests)} answers ({names}) were cut at {limit}"
        )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _on_one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _as_json(answer: "Answer", prompt: str) -> dict[str, Any]:
    size = answer.sizes[0] if len(answer.sizes) == 1 else None  # of several pictures, which is meant is open
    return {
        "images": [str(image) for image in answer.images],
        "prompt": prompt,
        "text": answer.generation.text,
        "token_ids": list(answer.generation.token_ids),
        "finish_reason": answer.generation.finish_reason,
        "detections": [
            {
                "label": detection.label,
                "box": asdict(detection.box),
                "pixels": size and dict(zip(asdict(detection.box), detection.box.pixels(*size), strict=True)),
                "codes": list(detection.codes),
            }
            for detection in answer.parsed.detections
        ],
        "problems": [asdict(problem) for problem in answer.parsed.problems],
        "annotated": answer.annotated and str(answer.annotated),
    }
