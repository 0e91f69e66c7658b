"""What a model thinks before it replies, told from the reply while both come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_TAGS: Final[Mapping[str, str]] = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reasoning>": "</reasoning>",
    "[THINK]": "[/THINK]",
}
"""What thoughts stand between, at the beginning of a reply."""


@dataclass(frozen=True)
class Part:
    """A piece of a reply.

    Attributes:
        text: The piece.
        thought: Whether it stands between the tags.
    """

    text: str
    thought: bool = False


class Thinking:
    """Takes a reply apart as it comes; tags, and blank lines after them, belong to neither part.

    Tags count only where a reply begins: later on they are part of what is said.

    Args:
        prompt: What the reply follows: the templates of some models write the first tag.
    """

    def __init__(self, prompt: str = "") -> None:
        self._held = ""
        self._begun = False
        end = prompt.rstrip()
        opened = next((tag for tag in _TAGS if end.endswith(tag)), None)
        self._closing = None if opened is None else _TAGS[opened]
        self._leading = True

    def push(self, text: str) -> list[Part]:
        """Takes the next piece and returns what can be told of it, often nothing."""
        self._held += text
        parts: list[Part] = []
        if not self._begun and self._closing is None:
            start = self._held.lstrip()
            opened = next((tag for tag in _TAGS if start.startswith(tag)), None)
            if opened is not None:
                self._closing, self._held = _TAGS[opened], start[len(opened) :]
            elif any(tag.startswith(start) for tag in _TAGS):
                return []
            else:
                self._begun, self._leading = True, False
        if self._closing is not None:
            thought, closed, rest = self._held.partition(self._closing)
            if closed:
                self._add(parts, thought.rstrip(), thought=True)
                self._closing, self._begun, self._leading, self._held = None, True, True, rest
            else:
                kept = self._kept(thought)
                self._held = thought[len(thought) - kept :]
                self._add(parts, thought[: len(thought) - kept], thought=True)
        if self._begun:
            text, self._held = self._held, ""
            self._add(parts, text, thought=False)
        return parts

    def flush(self) -> list[Part]:
        """Returns what is held back, when no more text comes."""
        parts: list[Part] = []
        self._add(parts, self._held, thought=self._closing is not None)
        self._held = ""
        return parts

    def _add(self, parts: list[Part], text: str, *, thought: bool) -> None:
        if self._leading:
            text = text.lstrip()
        if text:
            self._leading = False
            parts.append(Part(text, thought))

    def _kept(self, text: str) -> int:
        """Characters at the end that the closing tag may begin with, and blanks before them."""
        assert self._closing is not None
        longest = min(len(self._closing) - 1, len(text))
        kept = next((n for n in range(longest, 0, -1) if self._closing.startswith(text[-n:])), 0)
        return len(text) - len(text[: len(text) - kept].rstrip())


def spoken(reply: str, prompt: str = "") -> str:
    """A whole reply without what was thought.

    Args:
        reply: The reply.
        prompt: What it follows.
    """
    thinking = Thinking(prompt)
    parts = [*thinking.push(reply), *thinking.flush()]
    return "".join(part.text for part in parts if not part.thought)
