"""Does the loader keep up: examples that one process makes in a second, against those that a step consumes.

    python benchmarks/loader.py --json benchmarks/results/loader.json

The pictures are JPEG of 640 × 480 with the spectrum of photographs (noise whose amplitude falls with the
frequency), about as large as those of COCO. One worker reads them from a folder or from tar shards, decodes
them, resizes them as Hugging Face does, and batches them with their texts; the process that takes the batches
does nothing else. What a step consumes is measured for the small model on this machine (its own size,
float32, AdamW, one thread), and is arithmetic for the released ones: TFLOP of an example, forward and
backward, at half of an H200's 790 TFLOP/s of bfloat16. Rates are per second of a processor, which others on
the machine change little, and on the clock.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paligemma2.data.registry import FORMATS
from paligemma2.data.rows import DataRow
from paligemma2.data.sources import DataSource, read_source
from paligemma2.data.training_data import TrainingData, open_training_data
from paligemma2.inference.loading import load
from paligemma2.processing.image import image_to_array, open_image
from paligemma2.processing.processor import Processor
from paligemma2.training.objective import SuffixObjective

PICTURES = 256
BATCH = {112: 32, 224: 32, 448: 16, 896: 4}
H200_FLOPS = 0.5 * 790e12
TFLOP_PER_EXAMPLE = {("3b", 224): 4.61, ("3b", 448): 16.9, ("3b", 896): 78.0}
"""Of a training step with 64 tokens of text, without the output layer at image positions."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=512, help="of each measurement (an eighth at 896 px)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictor = load("tiny", device="cpu", for_training=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mean_bytes = write_pictures(folder)
        sources = {"folder": folder / "jsonl", "tar": folder / "tar"}
        parts = {size: seconds_of_parts(folder, size) for size in BATCH}
        step = {"tiny on this machine, 112": tiny_step(predictor, sources["folder"])}
        step |= {
            f"{model} on an H200, {size}": H200_FLOPS / tflop / 1e12
            for (model, size), tflop in TFLOP_PER_EXAMPLE.items()
        }
        rows = []
        for consumer, consumed in step.items():
            size = int(consumer.rsplit(" ", 1)[1])
            for source, path in sources.items():
                count = arguments.pictures // (8 if size == 896 else 1)
                made = loader_rates(opened(predictor.processor, path, size), count)
                rows.append(row_of(size, source, consumer, made, consumed))
        openings = [opening(source, path) for source, path in sources.items()]
    report = {
        "machine": {"processor": processor_name(), "threads_of_the_loader": 1},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "pictures": {"width": 640, "height": 480, "mean_bytes": mean_bytes},
        "milliseconds_per_picture": parts,
        "rows": rows,
        "opening": openings,
    }
    print_report(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def write_pictures(folder: Path) -> int:
    """The same pictures as a folder with JSON lines and as shards; returns their mean size in bytes."""
    sizes = []
    writers = {name: FORMATS[name].writer(folder / name, print) for name in ("jsonl", "tar")}
    for name in writers:
        (folder / name).mkdir()
    for number in range(PICTURES):
        data = photograph(number)
        sizes.append(len(data))
        row = DataRow(
            images=(data,),
            prefix="caption en",
            suffix="a red circle left of a large blue square on a grey ground",
            id=f"{number:06d}",
            file=folder,
        )
        for writer in writers.values():
            writer.write(row)
    for writer in writers.values():
        writer.close()
    return round(float(np.mean(sizes)))


def photograph(seed: int, width: int = 640, height: int = 480) -> bytes:
    """A JPEG of noise whose amplitude falls as 1 / frequency, as that of photographs does."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    planes = []
    for _ in range(3):
        phases = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
        plane = np.fft.irfft2(phases / frequency, s=(height, width))
        planes.append(plane / plane.std())
    grey = planes[0]
    colours = np.stack([grey + 0.3 * planes[1], grey, grey + 0.3 * planes[2]], axis=2)
    file = BytesIO()
    pixels = (128 + 50 * colours).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


def seconds_of_parts(folder: Path, size: int) -> dict[str, float]:
    """Processor milliseconds of decoding and of resizing a picture, the least of three rounds over 32."""
    files = sorted((folder / "jsonl").glob("*.jpg"))[:32]
    best = {"decode": float("inf"), "resize": float("inf")}
    for _ in range(3):
        begin = time.process_time()
        images = [open_image(file) for file in files]
        middle = time.process_time()
        for image in images:
            image_to_array(image, size)
        end = time.process_time()
        best["decode"] = min(best["decode"], middle - begin)
        best["resize"] = min(best["resize"], end - middle)
    return {name: 1000 * seconds / len(files) for name, seconds in best.items()}


def opened(processor: Processor, path: Path, size: int) -> TrainingData:
    """The data set for a model of this resolution."""
    config = processor.config
    text = replace(config.text, max_positions=8192)
    config = replace(config, vision=replace(config.vision, image_size=size), text=text)
    resized = Processor(processor.tokenizer, config, processor.resize)
    return open_training_data([DataSource(path=path)], resized, batch_size=BATCH[size], seed=0)


def loader_rates(data: TrainingData, count: int) -> tuple[float, float]:
    """Examples per second of a processor and per second on the clock, of one worker from start to end."""
    begin, spent = time.perf_counter(), seconds_of_children()
    for _ in data.batches(0, count // data.batch_size, num_workers=1):
        pass
    return count / (seconds_of_children() - spent), count / (time.perf_counter() - begin)


def seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tiny_step(predictor, path: Path, updates: int = 8) -> float:
    """Examples per second of a processor, of updates of the small model on batches that are ready."""
    size = predictor.config.vision.image_size
    data = opened(predictor.processor, path, size)
    ready = [data.batch(step) for step in range(2)]
    objective = SuffixObjective(predictor.model)
    optimizer = torch.optim.AdamW(predictor.model.parameters(), lr=1e-6, fused=True)
    seconds = []
    for update in range(updates):
        begin = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        objective(ready[update % 2]).backward()
        optimizer.step()
        seconds.append(time.process_time() - begin)
    return BATCH[size] / float(np.median(seconds[2:]))


def opening(source: str, path: Path) -> dict[str, object]:
    """Microseconds for each example when the data set is opened: texts are read, pictures are not."""
    taken = []
    for _ in range(5):
        begin = time.process_time()
        found = read_source(DataSource(path=path))
        taken.append((time.process_time() - begin) / len(found.train))
    bytes_each = found.train.num_bytes / len(found.train)
    return {"source": source, "microseconds": min(taken) * 1e6, "bytes_in_memory": bytes_each}


def row_of(
    size: int, source: str, consumer: str, made: tuple[float, float], consumed: float
) -> dict[str, object]:
    ratio = made[0] / consumed
    return {
        "row": f"loader_{size}_{source}",
        "image_size": size,
        "source": source,
        "workers": 1,
        "loader_examples_per_second": made[0],
        "loader_examples_per_second_on_the_clock": made[1],
        "consumer": consumer,
        "step_examples_per_second": consumed,
        "ratio": ratio,
        "workers_needed": int(np.ceil(1 / ratio)),
    }


def processor_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "unknown")


def print_report(report: dict) -> None:
    print(f"{report['machine']['processor']}; pictures of {report['pictures']['mean_bytes']} bytes")
    print("| source | size (px) | one worker (examples/s) | on the clock | consumer | it takes | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in report["rows"]:
        cells = [
            row["source"],
            str(row["image_size"]),
            f"{row['loader_examples_per_second']:.0f}",
            f"{row['loader_examples_per_second_on_the_clock']:.0f}",
            row["consumer"],
            f"{row['step_examples_per_second']:.1f}",
            f"{row['ratio']:.1f}",
        ]
        print(f"| {' | '.join(cells)} |")
    for size, parts in report["milliseconds_per_picture"].items():
        print(f"{size} px: decode {parts['decode']:.2f} ms, resize and scale {parts['resize']:.2f} ms")
    for each in report["opening"]:
        print(
            f"opening a {each['source']}: {each['microseconds']:.0f} µs and "
            f"{each['bytes_in_memory']:.0f} bytes of memory for each example"
        )


if __name__ == "__main__":
    main()
