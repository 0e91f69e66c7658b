"""Control tokens that people spell in what they say, told from those that a template writes.

Before a template sees a message, a mark goes between the characters of whatever spells a control
token. So nothing that was said can end a turn, wherever the template puts it; the marks are taken
out again when the prompt is cut into tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pipelines.common.chat.messages import Message
from pipelines.common.errors import PromptError

_MARKS: Final = (
    *map(chr, range(0xFDD0, 0xFDF0)),
    *(chr((plane << 16) + low) for plane in range(17) for low in (0xFFFE, 0xFFFF)),
)
"""The code points that are no characters (Unicode 23.7): no text needs them."""


class Marks:
    """A mark that none of some messages has, and the control tokens that it is for.

    Args:
        messages: What people say.
        control: The control tokens, as they are spelled.

    Raises:
        PromptError: The messages have all code points that could be marks.
    """

    def __init__(self, messages: Sequence[Message], control: Iterable[str]) -> None:
        used = set().union(*(message.content for message in messages))
        mark = next((mark for mark in _MARKS if mark not in used), None)
        if mark is None:
            raise PromptError(
                "the messages have every code point that is no character; take one of them out"
            )
        self.mark = mark
        # Of tokens that begin alike the longest is meant, as tokenizers have it.
        longest_first = sorted(filter(None, control), key=len, reverse=True)
        spelled = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._spelled = re.compile(spelled)
        self._written = re.compile(f"(?<!{mark})(?:{spelled})(?!{mark})")

    def marked(self, messages: Iterable[Message]) -> list[Message]:
        """The messages, in which no control token is spelled any more."""
        return [replace(each, content=self._marked(each.content)) for each in messages]

    def parts(self, prompt: str) -> Iterator[tuple[str, bool]]:
        """Cuts a prompt into parts that can be taken as they are and parts that cannot.

        Args:
            prompt: What a template has made of marked messages.

        Yields:
            A text, and whether it is plain: whatever spells a control token in it is text. Parts
            meet at control tokens, where tokenizers cut a text themselves.
        """
        kept = ""
        for text, written in self._runs(prompt):
            if self.mark not in text:
                kept += text + written
                continue
            yield kept, False
            yield text.replace(self.mark, ""), True
            kept = written
        yield kept, False

    def _marked(self, content: str) -> str:
        mark = self.mark
        return self._spelled.sub(lambda found: mark + mark.join(found[0]) + mark, content)

    def _runs(self, prompt: str) -> Iterator[tuple[str, str]]:
        """Texts, each with the control token that the template has written after it."""
        at = 0
        for found in self._written.finditer(prompt):
            yield prompt[at : found.start()], found[0]
            at = found.end()
        yield prompt[at:], ""
