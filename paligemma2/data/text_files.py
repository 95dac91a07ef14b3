"""Lines and JSON of text files with their line numbers, in bounded memory; bad bytes cost one line."""

import json
from codecs import getincrementaldecoder
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from paligemma2.data.rows import OnProblem, RowProblem, UnusableRow
from paligemma2.errors import DataError

MAX_LINE_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20
_SPACE = " \t\r\n"


def open_bytes(path: Path) -> IO[bytes]:
    """The opened file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}", hint="check the name and the permissions"
        ) from error


def numbered_lines(path: Path, on_problem: OnProblem) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, without their ends, numbered from 1.

    A byte order mark and Windows line ends are removed and reported once; a line that is not UTF-8 or longer
    than `MAX_LINE_BYTES` is skipped and reported.

    Raises:
        DataError: the file cannot be read.
    """
    has_windows_ends = False
    with open_bytes(path) as file:
        for number, line in enumerate(_limited_lines(file), start=1):
            if number == 1 and line.startswith(_BOM):
                line = line.removeprefix(_BOM)
                _note(on_problem, path, number, "the file starts with a byte order mark, which is removed")
            if line.endswith(b"\r\n") and not has_windows_ends:
                has_windows_ends = True
                _note(on_problem, path, number, "lines end as on Windows (CRLF)")
            try:
                text = _decoded(line)
            except UnusableRow as problem:
                on_problem(problem.problem(path, number))
                continue
            if text.strip():
                yield number, text.rstrip("\r\n")


def _limited_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines with their ends; of one that is too long the begin, which is still too long."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        yield line


def _decoded(line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise UnusableRow("the line is too long", f"over {MAX_LINE_BYTES} bytes")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnusableRow(
            "the line is not UTF-8", f"byte {error.start + 1} is {line[error.start]:#x}"
        ) from None


def _note(on_problem: OnProblem, path: Path, line: int, reason: str) -> None:
    on_problem(RowProblem(file=path, line=line, reason=reason, is_skipped=False))


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        UnusableRow: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableRow("not JSON", getattr(error, "msg", "nested too deep")) from None


def json_lines(path: Path, on_problem: OnProblem) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their lines; a line that holds none is skipped and reported.

    Raises:
        DataError: the file cannot be read.
    """
    for number, line in numbered_lines(path, on_problem):
        try:
            yield number, _as_object(parse_json(line))
        except UnusableRow as problem:
            on_problem(problem.problem(path, number))


def _as_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnusableRow("not a JSON object", f"it is a {type(value).__name__}")
    return value


def json_file(path: Path) -> Any:
    """What a whole JSON file says; it is read at once.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    with open_bytes(path) as file:
        data = file.read()
    try:
        return json.loads(data.removeprefix(_BOM).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON in UTF-8: {error}", hint="it may be cut short") from error


def json_array(path: Path, on_problem: OnProblem) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON file that is one list, with the line that each starts in; in bounded memory.

    Raises:
        DataError: the file cannot be read, or is not a list in JSON; what came before is given first.
    """
    for line, value in _array_items(path):
        try:
            yield line, _as_object(value)
        except UnusableRow as problem:
            on_problem(problem.problem(path, line))


def _array_items(path: Path) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder()
    with open_bytes(path) as file:
        text = _Window(path, file)
        if text.next_sign() != "[":
            raise text.error("it does not start with '['")
        text.skip(1)
        while (sign := text.next_sign()) != "]":
            if sign == ",":
                text.skip(1)
                continue
            yield text.line, text.take(decoder)


class _Window:
    """The part of a JSON file that is being read."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.line = 1
        self._path, self._file = path, file
        self._text, self._at = "", 0
        self._decoder = getincrementaldecoder("utf-8-sig")()

    def error(self, why: str) -> DataError:
        return DataError(
            f"{self._path}, line {self.line}: not a list in JSON: {why}", hint="it may be cut short"
        )

    def next_sign(self) -> str:
        """The next sign that is not space, which is skipped."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self.skip(1)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                raise self.error("it ends too early")

    def skip(self, count: int) -> None:
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def take(self, decoder: json.JSONDecoder) -> Any:
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > MAX_LINE_BYTES or not self._read():
                    raise self.error(getattr(error, "msg", "nested too deep")) from None
                continue
            self.skip(end - self._at)
            return value

    def _read(self) -> bool:
        """More of the file behind what is left, False at its end; doubles, for items larger than a chunk."""
        left = self._text[self._at :]
        self._text, self._at = left, 0
        while len(self._text) == len(left):  # nothing whole came yet
            data = self._file.read(max(_CHUNK, len(left)))
            try:
                self._text += self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise self.error(f"byte {error.object[error.start]:#x} is not UTF-8") from None
            if not data:
                return False
        return True


class TextFiles:
    """Text files that grow together, each opened with its first text."""

    def __init__(self) -> None:
        self._files: dict[Path, IO[str]] = {}

    def __contains__(self, path: Path) -> bool:
        return path in self._files

    def write(self, path: Path, text: str, *, first: str = "") -> None:
        """Add `text` to a file; a new file begins with `first`."""
        if path not in self._files:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[path] = path.open("w", encoding="utf-8", newline="")
            self._files[path].write(first)
        self._files[path].write(text)

    def close(self, *, last: str = "") -> None:
        """End every file with `last`."""
        for file in self._files.values():
            file.write(last)
            file.close()
