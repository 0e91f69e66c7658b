"""A conversation with a model that goes on, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.common.chat.messages import Message, Messages
from pipelines.common.engine.sequence import TextSequence
from pipelines.common.engine.shared import SharedEngine
from pipelines.common.errors import PromptError, UsageError
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.text import Defaults
from pipelines.common.text.tokenizer import Tokenizer

USUAL_REPLY: Final = 1024
"""Most tokens of a reply where nobody says how many."""

_USUAL_LENGTH: Final = 8192
"""Tokens of a conversation for which memory is taken where nobody asks for more."""


def usual_length(max_length: int | None, context_length: int) -> int:
    """Tokens that there is to be room for, where what is to come is not known.

    Args:
        max_length: What was asked for; None for what is usual.
        context_length: Most tokens that the model was made for.

    Raises:
        UsageError: It is beyond the model's context.
    """
    if max_length is None:
        return min(context_length, _USUAL_LENGTH)
    if max_length > context_length:
        raise UsageError(
            f"`max_length` is {max_length}, but the model's context is {context_length} tokens"
        )
    return max_length


@dataclass(frozen=True)
class Exchange:
    """What a user has said, and what the model has.

    Attributes:
        said: The user's message.
        reply: The model's.
    """

    said: str
    reply: str


class ChatSession:
    """Asks a model, and remembers what was said.

    Every turn puts the whole conversation to the engine, which still has the keys and values of the
    one before: only what is new is computed.

    Attributes:
        exchanges: What was said.
        system: What the model is told before all of it; None for nothing.
        defaults: How replies are chosen, and how long they get.
        last: The last reply's sequence; None before the first.
        max_length: Most tokens of the conversation.

    Args:
        engine: Computes the replies.
        reader: Makes tokens of conversations.
        system: See the attribute.
        defaults: How replies are chosen; the seed of each is one more than that of the one before.
        max_length: Most tokens of the conversation.
    """

    def __init__(
        self,
        engine: SharedEngine,
        reader: PromptReader,
        *,
        system: str | None,
        defaults: Defaults,
        max_length: int,
    ) -> None:
        self.exchanges: list[Exchange] = []
        self.system = system
        self.defaults = defaults
        self.last: TextSequence | None = None
        self.max_length = max_length
        self._engine = engine
        self._reader = reader
        self._turns = 0

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self._reader.tokenizer

    @property
    def messages(self) -> Messages:
        """All that was said."""
        said: list[Message] = [] if self.system is None else [Message("system", self.system)]
        for exchange in self.exchanges:
            said += [Message("user", exchange.said), Message("assistant", exchange.reply)]
        return tuple(said)

    @property
    def prompt_end(self) -> str:
        """The last characters of the prompt of the last reply, control tokens spelled out."""
        prompt = () if self.last is None else self.last.prompt[-16:]
        return self.tokenizer.decode(prompt, special=True)

    def begin(self, said: str) -> TextSequence:
        """Puts a message to the model; `reply` has it answered.

        Raises:
            PromptError: The template refuses it, or it is no valid Unicode.
            TooLongError: It does not fit, with what was said before.
        """
        asked = self.defaults.request((*self.messages, Message("user", said)), self._turns)
        request = asked.encoded(self._reader, self.max_length)
        self._turns += 1
        self.last = self._engine.add(request)
        return self.last

    def reply(self, said: str, interrupted: Callable[[], bool]) -> Generator[str, None, None]:
        """Computes the reply to what `begin` has put to the model, and remembers both.

        Args:
            said: The message.
            interrupted: Whether the reply is to end where it is.

        Yields:
            The reply, as it comes.

        Raises:
            PipelineError: The model computes what is no number.
        """
        sequence = self.last
        assert sequence is not None
        pieces: list[str] = []
        try:
            while not interrupted() and (text := self._engine.next_text(sequence)) is not None:
                pieces.append(text)
                yield text
        finally:
            pieces.append(self._engine.cancel(sequence))
            if sequence.error is None:
                self.exchanges.append(Exchange(said, "".join(pieces)))
        yield pieces[-1]
        if sequence.error is not None:
            raise sequence.error

    def reset(self) -> None:
        """Forgets all that was said, but for what the model is told before."""
        self.exchanges.clear()

    def undo(self) -> Exchange | None:
        """Takes the last exchange back; None if there is none."""
        return self.exchanges.pop() if self.exchanges else None

    def restore(self, messages: Sequence[Message]) -> None:
        """Goes on from a conversation.

        Raises:
            PromptError: It is none of a user and a model who take turns.
        """
        system = messages[0].content if messages and messages[0].role == "system" else None
        said = list(messages[system is not None :])
        roles = [message.role for message in said]
        if roles != ["user", "assistant"] * (len(said) // 2):
            raise PromptError(
                f"the messages are by {', '.join(roles[:6]) or 'nobody'}; expected user and"
                " assistant by turns, after one message of the system at most"
            )
        contents = [message.content for message in said]
        self.system = system
        self.exchanges = list(map(Exchange, contents[::2], contents[1::2]))
