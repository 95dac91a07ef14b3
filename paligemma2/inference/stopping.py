"""Texts that end an answer where they first appear."""

from collections.abc import Sequence


class StopStrings:
    """Looks for some texts in an answer that arrives in pieces, and holds back what may be the start of one.

    Args:
        stop: texts of at least one character; may be none.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._reach = max(map(len, stop), default=1) - 1
        self._text = ""
        self._num_given = 0
        self.is_found = False

    def push(self, piece: str) -> str:
        """Take in a piece; returns what certainly stands before a stop text and was not returned before."""
        if self.is_found:
            return ""
        start = max(len(self._text) - self._reach, 0)
        self._text += piece
        places = [place for text in self._stop if (place := self._text.find(text, start)) >= 0]
        self.is_found = bool(places)
        return self._give(min(places) if places else len(self._text) - self._reach)

    def finish(self) -> str:
        """What was held back, after the last piece."""
        return "" if self.is_found else self._give(len(self._text))

    def _give(self, end: int) -> str:
        start, self._num_given = self._num_given, max(end, self._num_given)
        return self._text[start : self._num_given]
