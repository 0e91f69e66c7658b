"""A conversation with a model."""

from __future__ import annotations

import weakref

from pipelines.common.errors import ParameterError
from pipelines.common.python.stream import Stream, replied
from pipelines.common.requests.session import ChatSession


class Chat:
    """A conversation with a model, made by `Model.chat`.

    Keys and values are kept from turn to turn, so only what is new is computed, unless the model
    was used for something else between them.

    Args:
        session: The conversation.
    """

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._replying: weakref.ref[Stream] | None = None

    def send(self, message: str) -> Stream:
        """Says something to the model.

        Args:
            message: The message; control tokens in it are text.

        Returns:
            The reply. Message and reply are part of the conversation when it is read, as far as it
            was. A reply before it that is not at its end ends where it is.

        Raises:
            ParameterError: The message is no text, or empty.
            PipelineError: When the reply is read: it cannot be put to the model, as one that does
                not fit.
        """
        if not isinstance(message, str) or not message.strip():
            raise ParameterError("message", message, "a text that is not empty")
        before = None if self._replying is None else self._replying()
        if before is not None:
            before.close()
        reply = replied(self._session, message)
        self._replying = weakref.ref(reply)
        return reply

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that was said: ``{"role": ..., "content": ...}`` each, as OpenAI has them."""
        return [{"role": said.role, "content": said.content} for said in self._session.messages]

    def undo(self) -> bool:
        """Takes the last message and its reply back; False if there is none."""
        return self._session.undo() is not None

    def reset(self) -> None:
        """Forgets all that was said, but for the system prompt."""
        self._session.reset()
