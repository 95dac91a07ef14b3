"""`paligemma2 predict`."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from paligemma2.cli.options import Model, Quantize, decoding_of
from paligemma2.cli.processes import first_process_speaks, is_first_process
from paligemma2.cli.terminal import AnswersBar, print_error, print_note
from paligemma2.errors import CheckpointError, InputError
from paligemma2.types import Clip

if TYPE_CHECKING:
    from paligemma2.inference.devices import Dtype
    from paligemma2.jobs.predict import Answer, PredictConfig
    from paligemma2.model.weight_forms import Quantization

_SHOWN = 3
_PROMPT_HELP = "'caption en', 'ocr', 'answer en QUESTION', 'detect THING ; THING', …"
_ANNOTATE_HELP = "Write pictures with the found boxes and masks into this folder."
_SHEET_HELP = "Write all pictures with what was found to this .png or .html."
_CONSTRAINED_HELP = "Only objects with the labels of the prompt (detect, segment)."
_SET_HELP = "How tokens are chosen: method=sample, top_p=0.9, method=beam, beams=4, stop=TEXT, …"
_PARALLEL_HELP = "Share the model over the processes of torchrun, a GPU each."
_ADAPTER_HELP = "Answer with this LoRA adapter, a folder of peft."
_FRAMES_HELP = "The files are videos: ask about so many frames of each; in folders, look for videos."
_STRIDE_HELP = "Take the first frame of a video and every so many-th after it."
_CODEC_HELP = "Decodes masks: a file such as vae-oid.npz; else that of 'tiny'."

Images = Annotated[
    list[Path] | None, typer.Argument(help="Pictures, videos, or folders of them.", show_default=False)
]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help=_PROMPT_HELP)]
Frames = Annotated[
    int | None, typer.Option("--frames", min=1, help=_FRAMES_HELP, show_default="16 of a video file")
]
Stride = Annotated[
    int | None, typer.Option("--stride", min=1, help=_STRIDE_HELP, show_default="spread evenly")
]
Together = Annotated[bool, typer.Option("--together", help="Ask once about all pictures, in order.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Annotate = Annotated[Path | None, typer.Option("--annotate", help=_ANNOTATE_HELP, metavar="FOLDER")]
Sheet = Annotated[Path | None, typer.Option("--sheet", help=_SHEET_HELP, metavar="FILE")]
Constrained = Annotated[bool, typer.Option("--constrained", help=_CONSTRAINED_HELP)]
Adapter = Annotated[Path | None, typer.Option("--adapter", help=_ADAPTER_HELP, metavar="FOLDER")]
Codec = Annotated[Path | None, typer.Option("--mask-codec", help=_CODEC_HELP, metavar="FILE")]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Stop an answer after so many tokens.",
        show_default="64; 256 for detect and ocr, 768 for segment",
    ),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help=_SET_HELP, metavar="NAME=VALUE")]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures to ask about at once.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
TensorParallel = Annotated[bool, typer.Option("--tensor-parallel", help=_PARALLEL_HELP)]
ComputeDtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]


def predict(
    images: Images = None,
    model: Model = "tiny",
    adapter: Adapter = None,
    prompt: Prompt = "",
    frames: Frames = None,
    stride: Stride = None,
    together: Together = False,
    as_json: AsJson = False,
    annotate: Annotate = None,
    sheet: Sheet = None,
    constrained: Constrained = False,
    mask_codec: Codec = None,
    max_new_tokens: MaxNewTokens = None,
    settings: Settings = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    dtype: ComputeDtype = "auto",
    quantize: Quantize = None,
    tensor_parallel: TensorParallel = False,
) -> None:
    """Ask a model about pictures or videos.

    For one picture its text, as it is decoded; for several, or a folder, a line 'picture TAB answer' each.
    """
    if not images:
        raise InputError("no image", hint="name one, as in `paligemma2 predict -p 'caption en' a.png`")
    from paligemma2.jobs.predict import PredictConfig

    files, videos = _files(images, frames, stride)
    config = PredictConfig(
        images=files,
        videos=videos,
        num_frames=frames or Clip.num_frames,
        stride=stride,
        model=model,
        prompt=prompt,
        together=together,
        max_new_tokens=max_new_tokens,
        decoding=decoding_of(settings or ()),
        batch_size=batch_size,
        device=device,
        dtype=cast("Dtype", dtype),
        quantize=cast("Quantization | None", quantize),
        tensor_parallel=tensor_parallel,
        adapter=adapter,
        constrained=constrained,
        mask_codec=mask_codec,
        masks=as_json,
        annotate=annotate,
        sheet=sheet,
    )
    is_single = len(config.requests) == 1 and (together or not images[0].is_dir())
    output = _Output(config, as_json=as_json, is_single=is_single)
    raise typer.Exit((_run_shared if tensor_parallel else _run)(config, output))


def _run_shared(config: "PredictConfig", output: "_Output") -> int:
    """`_run` in one of several processes, which all do the same; the first writes what there is to write."""
    if not is_first_process():
        config = replace(config, masks=config.needs_masks, annotate=None, sheet=None)
    with first_process_speaks():
        return _run(config, output)


def _files(
    paths: list[Path], frames: int | None, stride: int | None
) -> tuple[tuple[Path, ...], frozenset[Path]]:
    """All files, and those of them that are videos."""
    from paligemma2.jobs.predict_files import find_files, is_video

    files = find_files(paths, videos=frames is not None)
    videos = frozenset(file for file in files if frames is not None or is_video(file))
    if stride is not None and not videos:
        raise InputError(
            "--stride is for videos, and there is none", hint="add --frames 16, or leave it away"
        )
    return files, videos


def _run(config: "PredictConfig", output: "_Output") -> int:
    """Print the answers; the exit code is that of the last picture that could not be read, else 0."""
    from paligemma2.jobs.predict import Failure, run

    code = 0
    with AnswersBar(len(config.requests)) as bar:
        for result in run(config, on_load=bar.load, on_text=_write if output.streams else None):
            with bar.hidden():
                if isinstance(result, Failure):
                    code = print_error(result.error)
                else:
                    output.write(result)
            bar.advance()
    output.summarize()
    return code


class _Output:
    """Writes answers to stdout, each at once, and remembers what is worth a note at the end."""

    def __init__(self, config: "PredictConfig", *, as_json: bool, is_single: bool) -> None:
        self._config = config
        self._as_json = as_json
        self._is_single = is_single
        self._cut: list[Path] = []
        self._why_no_masks: CheckpointError | None = None

    @property
    def streams(self) -> bool:
        """Whether the text is to be written while it is decoded."""
        return self._is_single and not self._as_json

    def write(self, answer: "Answer") -> None:
        self._why_no_masks = self._why_no_masks or answer.why_no_masks
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
            print_note("note", f"{len(answer.parsed.detections)} objects drawn in {answer.annotated}")

    def summarize(self) -> None:
        """Say where the sheet is, which answers were cut at the limit, and why masks are missing."""
        if self._config.sheet is not None:
            print_note("note", f"all pictures are in {self._config.sheet}")
        if self._why_no_masks is not None:
            print_note("note", f"masks are not decoded: {self._why_no_masks}")
        if self._cut:
            self._note_cut()

    def _note_cut(self) -> None:
        limit = f"{self._config.limit} tokens; give a larger --max-new-tokens"
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
    from paligemma2.processing.masks import mask_to_rle

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
                "score": detection.score,
                "codes": list(detection.codes),
                "mask": None if detection.mask is None else mask_to_rle(detection.mask),
            }
            for detection in answer.parsed.detections
        ],
        "problems": [asdict(problem) for problem in answer.parsed.problems],
        "annotated": answer.annotated and str(answer.annotated),
    }
