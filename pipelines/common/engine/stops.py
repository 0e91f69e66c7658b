"""Stop strings in streamed text."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.common.errors import UsageError


class StopMatcher:
    """Passes text on up to the first stop string.

    Text is held back only while it could still become a stop string. The result does not depend on
    how the text is cut into pieces: of several stop strings, the one that ends first counts.

    Attributes:
        matched: The stop string that was found, or None.

    Raises:
        UsageError: A stop string is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise UsageError("`stops` has an empty text; expected at least one character")
        self.matched: str | None = None
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> str:
        """Takes the next piece and returns what can be printed; nothing after a match."""
        if self.matched is not None:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            end, start = min(found)
            self.matched = text[start:end]
            self._held = ""
            return text[:start]
        printable = len(text) - self._longest_start(text)
        self._held = text[printable:]
        return text[:printable]

    def flush(self) -> str:
        """Returns what is held back, when no more text comes."""
        text, self._held = self._held, ""
        return text

    def _longest_start(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
