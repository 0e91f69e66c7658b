"""Finds texts in a text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator


class Literals:
    """Cuts texts at certain others, of which the longest counts wherever several begin.

    A regular expression of all of them would try one after the other at each place, of which a
    vocabulary with thousands of control tokens has many.

    Args:
        literals: What is looked for; the empty text is not.
    """

    def __init__(self, literals: Iterable[str]) -> None:
        self._known = frozenset(filter(None, literals))
        lengths: dict[str, set[int]] = defaultdict(set)
        for literal in self._known:
            lengths[literal[0]].add(len(literal))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        # A look at the shortest is enough nearly everywhere, as at a space where runs are tokens.
        self._begun = {literal[: self._lengths[literal[0]][-1]] for literal in self._known}
        firsts = "".join(map(re.escape, sorted(lengths)))
        self._first = re.compile(f"[{firsts}]") if firsts else None

    def cut(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a text in order, none empty, and whether each is one that is looked for."""
        end = 0
        match = self._first and self._first.search(text)
        while match and self._first:
            start = match.start()
            found = self._at(text, start)
            if not found:
                match = self._first.search(text, start + 1)
                continue
            if end < start:
                yield text[end:start], False
            yield found, True
            end = start + len(found)
            match = self._first.search(text, end)
        if end < len(text):
            yield text[end:], False

    def _at(self, text: str, start: int) -> str:
        lengths = self._lengths[text[start]]
        if text[start : start + lengths[-1]] in self._begun:
            for length in lengths:
                if (part := text[start : start + length]) in self._known:
                    return part
        return ""
