"""A small data set on disk with one fault of every kind, and a sound one."""

import json
from pathlib import Path

from PIL import Image

from paligemma2.data.synthetic.world import scene_sample

BOX = "<loc0100><loc0200><loc0300><loc0400>"


def save_scene(path: Path, index: int) -> Path:
    Image.fromarray(scene_sample("train", index, size=112).images[0]).save(path)
    return path


def record(image: str, prefix: str, suffix: str, **more: object) -> dict[str, object]:
    return {"image": image, "prefix": prefix, "suffix": suffix, **more}


def write_lines(
    path: Path, records: list[dict[str, object]], *, end: bytes = b"\n", begin: bytes = b""
) -> None:
    path.write_bytes(begin + b"".join(json.dumps(one).encode() + end for one in records))


def save_sound_data(folder: Path) -> Path:
    """Two pictures in train, two in valid, nothing wrong."""
    folder.mkdir()
    for index in range(4):
        save_scene(folder / f"{index}.png", index)
    for split, first in (("train", 0), ("valid", 2)):
        records = [
            record(f"{first}.png", "detect star", f"{BOX} star"),
            record(f"{first + 1}.png", "caption en", "a star"),
        ]
        write_lines(folder / f"_annotations.{split}.jsonl", records)
    return folder


def save_broken_data(folder: Path) -> dict[str, tuple[str, int]]:
    """One fault of every kind; for each rule the file and the line where it is."""
    save_sound_data(folder)
    (folder / "text.png").write_text("no picture")
    Image.open(folder / "1.png").resize((90, 90)).save(folder / "like_1.png")
    Image.open(folder / "3.png").convert("RGBA").save(folder / "alpha.png")
    train = [
        record("0.png", "detect star", f"{BOX} star", id="a"),
        record("1.png", "ocr", "stop", id="a"),  # 2
        record("no.png", "ocr", "stop"),  # 3
        record("text.png", "ocr", "stop"),  # 4
        record("0.png", "ocr", " "),  # 5
        record("0.png", "detect star", "<loc0300><loc0200><loc0100><loc0400> star"),  # 6
        record("0.png", "ocr", "word " * 1100),  # 7
        record("1.png", "ocr", "stop"),  # 8
        record("1.png", "detect star", f"{BOX} heart"),  # 9
        record("1.png", "ocr", "stop<eos>"),  # 10
        record("1.png", "ocr", "sto\x08p"),  # 11
    ]
    write_lines(folder / "_annotations.train.jsonl", train, end=b"\r\n", begin=b"\xef\xbb\xbf")
    with (folder / "_annotations.train.jsonl").open("ab") as file:
        file.write(b'{"image": "caf\xe9.png"}\n')  # 12
    valid = [
        record("2.png", "detect zebra", f"{BOX} zebra"),
        record("0.png", "ocr", "stop"),  # 2
        record("like_1.png", "ocr", "stop"),  # 3
        record("alpha.png", "ocr", "stop"),  # 4
    ]
    write_lines(folder / "_annotations.valid.jsonl", valid)
    places = {
        "duplicate-id": ("train", 2),
        "missing-image": ("train", 3),
        "corrupt-image": ("train", 4),
        "skipped-row": ("train", 5),
        "malformed-answer": ("train", 6),
        "cannot-encode": ("train", 7),
        "duplicate-row": ("train", 8),
        "unasked-label": ("train", 9),
        "special-text": ("train", 10),
        "odd-characters": ("train", 11),
        "corrected": ("train", 1),
        "leaked-image": ("valid", 2),
        "near-duplicate": ("valid", 3),
        "image-mode": ("valid", 4),
    }
    return {rule: (f"_annotations.{split}.jsonl", line) for rule, (split, line) in places.items()}
