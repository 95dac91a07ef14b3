"""Seconds and memory of `paligemma2 data check` on a generated data set.

    python benchmarks/data_check.py --rows 100000 --pictures 5000

Nine of ten pictures are in train, the others in valid; rows ask to detect, to caption and to answer.
Every 1000th row is broken. The memory is the sum of the resident sets of the command and its two workers,
sampled ten times a second; pages that they share count more than once, so it is an upper bound.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw

LABELS = ("car", "person", "traffic light", "dog", "person's hat", "bicycle")
SIZE = (320, 240)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=5_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, arguments.rows, arguments.pictures)
        begin = time.perf_counter()
        megabytes, verdict = check(folder)
        seconds = time.perf_counter() - begin
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{arguments.rows} rows, {arguments.pictures} pictures: {seconds:.1f} s on the clock")
    print(f"{spent.ru_utime + spent.ru_stime:.1f} s of processors, {megabytes:.0f} MB at most")
    print(verdict)


def write_data(folder: Path, rows: int, pictures: int) -> None:
    rng = random.Random(0)
    for number in range(pictures):
        draw_picture(rng).save(folder / f"{number}.jpg", quality=85)
    held_out = max(1, pictures // 10)
    for split, first, count in (("train", held_out, pictures - held_out), ("valid", 0, held_out)):
        with (folder / f"_annotations.{split}.jsonl").open("w", encoding="utf-8") as file:
            for row in range(rows * count // pictures):
                file.write(json.dumps(record(rng, f"{first + row % count}.jpg", row)) + "\n")


def draw_picture(rng: random.Random) -> Image.Image:
    """Shapes of many colours, so that hashes differ as those of photographs do."""
    image = Image.new("RGB", SIZE, colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = rng.randrange(SIZE[0]), rng.randrange(SIZE[1])
        corners = (x, y, x + rng.randrange(10, 160), y + rng.randrange(10, 120))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(corners, fill=colour(rng))
    return image


def colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def record(rng: random.Random, image: str, row: int) -> dict[str, str]:
    if row % 1000 == 999:
        return {"image": image, "prefix": "detect car", "suffix": "<loc0001><loc0002><loc0003> car"}
    kind = row % 3
    if kind == 0:
        return {"image": image, "prefix": "caption en", "suffix": f"a picture of number {rng.random()}"}
    if kind == 1:
        return {"image": image, "prefix": f"answer en how many {rng.random()}?", "suffix": str(row % 7)}
    labels = rng.sample(LABELS, 3)
    suffix = " ; ".join(f"{box(rng)} {label}" for label in labels)
    return {"image": image, "prefix": f"detect {' ; '.join(labels)}", "suffix": suffix}


def box(rng: random.Random) -> str:
    low = [rng.randrange(500) for _ in range(2)]
    high = [rng.randrange(500, 1024) for _ in range(2)]
    return "".join(f"<loc{value:04d}>" for value in (*low, *high))


def check(folder: Path) -> tuple[float, str]:
    """Megabytes at most, and the line that sums up the check."""
    command = [sys.executable, "-m", "paligemma2", "data", "check", str(folder), "--workers", "2"]
    most = 0
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        while process.poll() is None:
            most = max(most, resident_bytes(process.pid))
            time.sleep(0.1)
        out.seek(0)
        verdict = next(line for line in out if "different pictures checked" in line)
    return most / 1e6, verdict.strip()


def resident_bytes(pid: int) -> int:
    """Of a process and its children (Linux); 0 for one that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return pages * 4096 + sum(resident_bytes(int(child)) for child in children)


if __name__ == "__main__":
    main()
