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

    A control token of one character, between whose characters nothing goes, has a stand-in.

    Args:
        messages: What people say.
        control: The control tokens, as they are spelled.

    Raises:
        PromptError: The messages have all code points that could be marks.
    """

    def __init__(self, messages: Sequence[Message], control: Iterable[str]) -> None:
        used = set().union(*(message.content for message in messages))
        free = [mark for mark in _MARKS if mark not in used]
        # Of tokens that begin alike the longest is meant, as tokenizers have it.
        tokens = sorted(filter(None, control), key=len, reverse=True)
        short = [token for token in tokens if len(token) == 1]
        if len(free) <= len(short):
            raise PromptError(
                "the messages have every code point that is no character; take one of them out"
            )
        self._marked_as = {token: free[0].join(token) for token in tokens}
        self._marked_as |= dict(zip(short, free[1:], strict=False))
        self._taken_out = {ord(self._marked_as[token]): token for token in short}
        self._taken_out[ord(free[0])] = ""
        self._spelled = re.compile("|".join(map(re.escape, tokens)) or "(?!)")

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
            plain = text.translate(self._taken_out)
            if plain == text:
                kept += text + written
                continue
            yield kept, False
            yield plain, True
            kept = written
        yield kept, False

    def _marked(self, content: str) -> str:
        return self._spelled.sub(lambda found: self._marked_as[found[0]], content)

    def _runs(self, prompt: str) -> Iterator[tuple[str, str]]:
        """Texts, each with the control token that the template has written after it."""
        at = 0
        for found in self._spelled.finditer(prompt):
            yield prompt[at : found.start()], found[0]
            at = found.end()
        yield prompt[at:], ""
