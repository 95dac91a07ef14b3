"""Files of golden scores, read so that nothing in them can be overlooked.

A file is `{metric, source, licence, notes, cases, …}`. A `Record` knows which of its keys have been read; a
check that leaves one unread fails, unless it says by name what it leaves and why.

    def check_things(file: GoldenFile) -> None:
        for case in file.cases:
            case.check("expected", score(case["prediction"], case["answers"]))

    run_check(golden_metrics / "things.json", check_things)
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

TOLERANCE = 1e-9
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?(?:e-?[0-9]+)?|nan|inf)")
_ABOUT_THE_FILE = ("metric", "source", "licence", "notes")


class Record(Mapping[str, Any]):
    """A JSON object that knows which of its keys have been read.

    Objects inside expectations (keys that hold "expected", and blocks beside `cases`) are records too: each
    of their keys must be read as well, by name or by going over all of them. Other values are given as they
    are.
    """

    def __init__(self, content: Mapping[str, Any], name: str, mismatches: list[str]) -> None:
        self._content = content
        self._name = name
        self._mismatches = mismatches
        self._read: set[str] = set()
        self._inner = {
            key: Record(value, f"{name}[{key!r}]", mismatches)
            for key, value in content.items()
            if isinstance(value, dict) and self._is_expectation(key)
        }

    def __getitem__(self, key: str) -> Any:
        value = self._content[key]
        self._read.add(key)
        return self._inner.get(key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __contains__(self, key: object) -> bool:  # asking whether a key is there is not reading it
        return key in self._content

    def leave(self, *keys: str, why: str) -> None:
        """Do not compare these keys, where they are there; `why` is for whoever reads the check."""
        assert why
        for key in keys:
            self._read.add(key)
            self._inner.pop(key, None)

    def check(self, key: str, ours: Any, tolerance: float = TOLERANCE) -> None:
        """Compare one expectation; numbers may differ by `tolerance`, relative or absolute.

        Where the reference raised an error, ours must be a defined value: neither None nor a NaN. Where it
        gave a NaN, any number.
        """
        expected = self[key]
        if is_error(expected):
            is_right = ours is not None and ours == ours
            expected = dict(expected) if isinstance(expected, Record) else expected
        else:
            expected = dict(expected) if isinstance(expected, Record) else expected
            is_right = agree(ours, expected, tolerance)
        if not is_right:
            self._mismatches.append(f"{self._name}[{key!r}]: ours {ours!r}, expected {expected!r}")

    def check_printed(
        self, key: str, ours: Mapping[str, Any], leave: Mapping[str, str] | None = None
    ) -> None:
        """Compare every number that a script printed.

        Args:
            key: of the printed text.
            ours: by label ("section: label" below a heading) the numbers of that line, as `printed_numbers`
                finds them: as text where the script rounds, or as numbers.
            leave: labels that are not compared, with the reason.
        """
        expected = self[key]
        if is_error(expected) or not expected.strip():  # the script failed before it printed
            return
        found = printed_numbers(expected)
        if not found:
            self._mismatches.append(f"{self._name}[{key!r}]: no number in {expected!r}")
        for label, numbers in found.items():
            if label in (leave or {}):
                continue
            mine = ours.get(label, ())
            wanted = [
                float(text) if isinstance(value, float) else text
                for text, value in zip(numbers, mine, strict=False)
            ]
            if len(mine) != len(numbers) or not agree(list(mine), wanted):
                self._mismatches.append(f"{self._name}[{key!r}] {label}: ours {mine}, printed {numbers}")

    def unread(self) -> list[str]:
        """What has not been read, here and further in."""
        here = [f"{self._name}[{key!r}]" for key in self._content if key not in self._read]
        return here + [
            name for key, inner in self._inner.items() if key in self._read for name in inner.unread()
        ]

    def _is_expectation(self, key: str) -> bool:
        return "expected" in key or "expected" in self._name or ".json[" not in self._name


class GoldenFile(Record):
    """The records of one file: `cases`, and whatever blocks stand beside them, by key."""

    def __init__(self, path: Path) -> None:
        self.mismatches: list[str] = []
        content = json.loads(path.read_text("utf-8"))
        super().__init__(
            {key: value for key, value in content.items() if key != "cases"}, path.name, self.mismatches
        )
        self.leave(*_ABOUT_THE_FILE, why="they say what the file is")
        self.cases = tuple(
            Record(case, f"{path.name}[{number}]", self.mismatches)
            for number, case in enumerate(content["cases"])
        )


Check: TypeAlias = Callable[[GoldenFile], None]


def run_check(path: Path, check: Check) -> None:
    """Run one check on one file.

    Raises:
        AssertionError: there are no cases, a comparison does not hold (all of them are told), or something
            was not read.
    """
    file = GoldenFile(path)
    assert file.cases, f"{path.name} has no cases"
    check(file)
    assert not file.mismatches, "\n".join(
        [f"{path.name}: {len(file.mismatches)} differ", *file.mismatches[:20]]
    )
    unread = file.unread() + [name for case in file.cases for name in case.unread()]
    assert not unread, "\n".join([f"{path.name}: {len(unread)} not read", *unread[:20]])


def printed_numbers(text: str) -> dict[str, list[str]]:
    """The numbers of each line "label: numbers" or "label=number", and of tables with a line of names.

    Lines that are indented belong to the heading ("heading:") above them; their label is "heading: label".
    """
    found: dict[str, list[str]] = {}
    heading, names = "", list[str]()
    for line in text.splitlines():
        label, sign, rest = line.replace("=", ":", 1).partition(":")
        numbers = _NUMBER.findall(rest)
        if not sign:
            fields = line.split()
            if fields and all(_NUMBER.fullmatch(each) for each in fields):
                found |= {name: [number] for name, number in zip(names, fields, strict=True)}
            names = fields
        elif not numbers:
            heading = label.strip()
        else:
            is_inside = line[:1].isspace() and heading
            found[f"{heading}: {label.strip()}" if is_inside else label.strip()] = numbers
    return found


def is_error(expected: Any) -> bool:
    """Whether the reference raised an error: `{"error": …}` or "error:…"."""
    if isinstance(expected, str):
        return expected.startswith("error:")
    return isinstance(expected, Mapping) and set(expected) == {"error"}


def agree(ours: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Equal; numbers, alone or inside of lists and objects, up to a tolerance.

    Where a NaN is expected any number will do.
    """
    if isinstance(expected, bool) or isinstance(ours, bool):
        return bool(ours == expected)
    if isinstance(expected, int | float) and isinstance(ours, int | float):
        return math.isnan(expected) or math.isclose(ours, expected, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(expected, Mapping) and isinstance(ours, Mapping):
        return ours.keys() == expected.keys() and all(
            agree(ours[key], expected[key], tolerance) for key in expected
        )
    if isinstance(expected, list | tuple) and isinstance(ours, list | tuple):
        return len(ours) == len(expected) and all(
            agree(one, other, tolerance) for one, other in zip(ours, expected, strict=True)
        )
    return bool(ours == expected)
