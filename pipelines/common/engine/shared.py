"""One engine for several callers, of any threads: each is given the text of its own sequence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.common.engine.engine import Engine
from pipelines.common.engine.request import Request
from pipelines.common.engine.sequence import TextSequence
from pipelines.common.errors import UsageError
from pipelines.common.program.runner import Runner
from pipelines.common.text.tokenizer import Tokenizer


class SharedEngine:
    """Computes a step for all whenever one of its callers wants text that is not there yet.

    Steps are computed one at a time. So callers need no thread that computes for them, and none
    waits for another who does not go on.

    Args:
        runner: What computes; no one else uses it.
        tokenizer: See the attribute.

    Attributes:
        tokenizer: The model's.
    """

    def __init__(self, runner: Runner, tokenizer: Tokenizer) -> None:
        self._runner = runner
        self.tokenizer = tokenizer
        self._engine = Engine(runner, tokenizer)
        self._texts: dict[TextSequence, list[str]] = {}
        self._lock = threading.RLock()
        self._computing = False
        self._left: list[TextSequence] = []
        self._closed = False

    def add(self, request: Request) -> TextSequence:
        """Takes in a request, see `Engine.add`; whoever adds one cancels it in the end.

        Raises:
            UsageError: It does not fit into a slot, or the engine is closed.
        """
        with self._lock:
            self.check_open()
            sequence = self._engine.add(request)
            self._texts[sequence] = []
            return sequence

    def next_text(self, sequence: TextSequence) -> str | None:
        """What has been written of a sequence since the last call; if nothing has, after one step.

        Returns:
            The text, which may be empty; None when the sequence has ended and all was returned.

        Raises:
            UsageError: The engine is closed.
        """
        with self._lock:
            self.check_open()
            texts = self._texts[sequence]
            if not texts:
                if sequence.finish_reason is not None:
                    return None
                self._step()
            text = "".join(texts)
            texts.clear()
            return text

    def cancel(self, sequence: TextSequence) -> str:
        """Lets go of a sequence, which ends as ``interrupted`` if it has not ended.

        Returns:
            What has been written of it since the last `next_text`.
        """
        with self._lock:
            if self._computing:  # the collector of garbage does it, in the midst of a step
                self._left.append(sequence)
                return ""
            texts = self._texts.pop(sequence, [])
            if not self._closed:
                texts.append(self._engine.cancel(sequence))
            return "".join(texts)

    @contextmanager
    def alone(self) -> Iterator[Runner]:
        """Lends the runner, when all that is under way has come to its end.

        Raises:
            UsageError: The engine is closed.
        """
        with self._lock:
            self.check_open()
            while not self._engine.idle:
                self._step()
            try:
                yield self._runner
            finally:
                self._begin_anew()

    def check_open(self) -> None:
        """Makes sure that it can be used.

        Raises:
            UsageError: It is closed.
        """
        if self._closed:
            raise UsageError("the model is closed; load it again")

    def close(self) -> None:
        """Ends what is under way as ``interrupted``, and lets go of the runner."""
        with self._lock:
            if not self._closed:
                self._begin_anew()
                self._closed = True
                del self._runner, self._engine

    def _step(self) -> None:
        self._computing = True
        try:
            for event in self._engine.step():
                self._texts[event.sequence].append(event.text)
        except BaseException:  # Ctrl-C too, which comes anywhere
            self._begin_anew()
            raise
        finally:
            self._computing = False
            while self._left:
                self.cancel(self._left.pop())

    def _begin_anew(self) -> None:
        """Makes an engine that believes nothing of what slots hold; all sequences have ended."""
        for sequence, texts in self._texts.items():
            if sequence.finish_reason is None:
                texts.append(sequence.finish("interrupted"))
        self._engine = Engine(self._runner, self.tokenizer)
