"""A text that is being written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import TypeAlias

from pipelines.common.engine.request import Request
from pipelines.common.engine.shared import SharedEngine
from pipelines.common.errors import UsageError
from pipelines.common.requests.session import ChatSession
from pipelines.common.requests.text import Result

Pieces: TypeAlias = Generator[str, None, None]
Ended: TypeAlias = Callable[[Result], None]


class Stream(Iterator[str]):
    """A text that is being written, in pieces as they come.

    It is begun when the first piece is asked for. Whoever wants no more of it closes it, leaves its
    ``with`` block, or drops it: what it has computed with is free then. An error, and Ctrl-C, ends
    it as well.

    Args:
        written: Writes it, and tells what came of it.
    """

    def __init__(self, written: Callable[[Ended], Pieces]) -> None:
        # No reference of the generator's leads back here, so a stream that is dropped is closed.
        self._results: list[Result] = []
        self._pieces = written(self._results.append)

    def __next__(self) -> str:
        return next(self._pieces)

    def read(self) -> Result:
        """Reads to the end.

        Returns:
            What came of it, with the pieces that were read before.

        Raises:
            PipelineError: It cannot be written on, or the model was closed.
            UsageError: It was closed before it was begun.
        """
        for _ in self:
            pass
        return self.result

    @property
    def result(self) -> Result:
        """What came of it, when it is at its end, or closed.

        Raises:
            UsageError: It goes on, or has never begun.
        """
        if not self._results:
            raise UsageError("the stream is not at its end; read it first, or close it")
        return self._results[0]

    def close(self) -> None:
        """Ends it where it is."""
        self._pieces.close()

    def __repr__(self) -> str:
        """Says what to do with it, to whom has it shown in a notebook."""
        if not self._results:
            return "<Stream: iterate over it for pieces of text, or read() it to its end>"
        return f"<Stream: {self.result.finish_reason}, {self.result.text!r}>"

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def continued(engine: SharedEngine, request: Request) -> Stream:
    """The text that follows a prompt."""

    def written(ended: Ended) -> Pieces:
        sequence = engine.add(request)
        pieces = []
        try:
            while (text := engine.next_text(sequence)) is not None:
                if text:
                    pieces.append(text)
                    yield text
        finally:
            pieces.append(engine.cancel(sequence))
            ended(Result.of(sequence, "".join(pieces), engine.tokenizer))
        if sequence.error is not None:
            raise sequence.error

    return Stream(written)


def replied(session: ChatSession, message: str) -> Stream:
    """The reply to a message."""

    def written(ended: Ended) -> Pieces:
        sequence = session.begin(message)
        reply = session.reply(message, lambda: False)
        try:
            yield from filter(None, reply)
        finally:
            reply.close()
            text = "" if sequence.error is not None else session.exchanges[-1].reply
            ended(Result.of(sequence, text, session.tokenizer))

    return Stream(written)
