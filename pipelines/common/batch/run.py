"""Takes the rows of an input through a model, and each one's result to the output."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final

from pipelines.common.batch.figures import Figures
from pipelines.common.batch.order import alike_together
from pipelines.common.batch.output import Output
from pipelines.common.batch.prompts import Prompts
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.engine.engine import Engine, run
from pipelines.common.engine.request import Request
from pipelines.common.engine.sequence import TextSequence
from pipelines.common.errors import PluginError, PromptError, UsageError
from pipelines.common.program.runner import Runner
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.text import Defaults, Result, TextRequest

_REFUSED: Final = (PromptError, UsageError, PluginError)
"""What says that a row cannot be run."""


class BatchRun:
    """The rows of an input that have no record yet.

    Attributes:
        figures: How far it has come.
    """

    def __init__(
        self,
        prompts: Prompts[Defaults, TextRequest],
        reader: PromptReader,
        *,
        max_length: int,
        done: Set[int] = frozenset(),
        failed: int = 0,
    ) -> None:
        """Notes what is to be run.

        Args:
            prompts: The input.
            reader: Makes tokens of prompts.
            max_length: Most tokens of a prompt and its output.
            done: Lines of the input that have a record.
            failed: How many of those could not be run.
        """
        self.figures = Figures(prompts.rows, len(done), failed)
        self._prompts = prompts
        self._reader = reader
        self._max_length = max_length
        self._done = done

    def demand(self) -> tuple[int, int]:
        """How many sequences there are to run, and the most tokens that one of them grows to."""
        count = longest = 0
        for row in self._rows():
            if isinstance(row, Row):
                try:
                    limit = self._encoded(row).max_length
                except _REFUSED:
                    continue
                count, longest = count + row.request.samples, max(longest, limit)
        return count, longest

    def run(self, runner: Runner | None, output: Output, *, ordered: bool) -> Iterator[Figures]:
        """Runs the rows and writes a record for each.

        Args:
            runner: Holds the longest row in each of its slots; None if no row can be run.
            output: What the records are written to.
            ordered: Whether in the order of the input; otherwise as rows are done.

        Yields:
            The figures, whenever a sequence has got on.

        Raises:
            BatchError: The input cannot be read, or the output cannot be written.
        """
        start = time.perf_counter()
        records = _Records(output, self.figures, ordered=ordered)
        begun: dict[Request, _Begun] = {}
        waiting = self._requests(records, begun)
        if runner is None:
            runnable = next(waiting, None)
            assert runnable is None
            return
        if not ordered:  # records in order would be held back, and lost with the process
            waiting = alike_together(waiting)
        figures = self.figures
        for event in run(Engine(runner, self._reader.tokenizer), waiting):
            sequence = event.sequence
            if sequence.timings.first_token_s is not None and not sequence.timings.decode_steps:
                figures.prompt_tokens += len(sequence.prompt)
                figures.shared_tokens += sequence.shared_tokens
                figures.prefill_s += sequence.timings.prefill_s
            sample = begun[sequence.request]
            sample.texts.append(event.text)
            figures.generated_tokens += len(sequence.tokens) - sample.tokens
            sample.tokens = len(sequence.tokens)
            if sequence.finish_reason is not None:
                self._end(records, begun.pop(sequence.request), sequence)
            figures.seconds = time.perf_counter() - start
            yield figures

    def _rows(self) -> Iterator[Row[TextRequest] | BadRow]:
        return (row for row in self._prompts if row.line not in self._done)

    def _encoded(self, row: Row[TextRequest]) -> Request:
        """What a row asks of the engine.

        Raises:
            PromptError: See `TextRequest.encoded`.
            UsageError: Likewise.
            PluginError: Likewise.
        """
        return row.request.encoded(self._reader, self._max_length)

    def _requests(self, records: _Records, begun: dict[Request, _Begun]) -> Iterator[Request]:
        """A request for each row that can be run; the others get their records on the way."""
        for place, row in enumerate(self._rows()):
            if isinstance(row, Row):
                try:
                    request = self._encoded(row)
                except _REFUSED as error:
                    row = row.failed(str(error))
            if isinstance(row, BadRow):
                self._fail(records, place, row)
                continue
            of = _Samples(place, row)
            for index, sample in enumerate(row.request.sampled(request)):
                begun[sample] = _Begun(of, index, [])
                yield sample

    def _end(self, records: _Records, begun: _Begun, sequence: TextSequence) -> None:
        """Takes in a sample that has ended; the last one of a row is written with the others."""
        of = begun.of
        of.ended += 1
        if sequence.error is not None:
            of.error = of.error or str(sequence.error)
        else:
            text = "".join(begun.texts)
            of.results[begun.index] = Result.of(sequence, text, self._reader.tokenizer)
        if of.ended < of.row.request.samples:
            return
        if of.error is not None:
            self._fail(records, of.place, of.row.failed(of.error))
            return
        result = Result.of_samples(of.results[index] for index in sorted(of.results))
        records.write(of.place, self._prompts.form.record(of.row, result))

    def _fail(self, records: _Records, place: int, row: BadRow) -> None:
        self.figures.first_error = self.figures.first_error or f"line {row.line}: {row.error}"
        records.write(place, self._prompts.form.failure(row), failed=True)


@dataclass
class _Samples:
    """A row whose sequences are under way.

    Attributes:
        place: Its place among the rows of this run.
        row: The row.
        ended: How many of its samples have ended.
        results: What came of those, by their index.
        error: Why one of them has failed, and so the row.
    """

    place: int
    row: Row[TextRequest]
    ended: int = 0
    results: dict[int, Result] = field(default_factory=dict)
    error: str | None = None


@dataclass
class _Begun:
    """A sequence that is under way.

    Attributes:
        of: The row that it is a sample of.
        index: Which one.
        texts: The output so far, in pieces.
        tokens: How many tokens of it are counted.
    """

    of: _Samples
    index: int
    texts: list[str]
    tokens: int = 0


class _Records:
    """Records on their way to the output, held back until it is their turn if order matters.

    A row is done when its record is in the output.
    """

    def __init__(self, output: Output, figures: Figures, *, ordered: bool) -> None:
        self._output = output
        self._figures = figures
        self._ordered = ordered
        self._held: dict[int, tuple[Mapping[str, Any], bool]] = {}
        self._next = 0

    def write(self, place: int, record: Mapping[str, Any], *, failed: bool = False) -> None:
        if not self._ordered:
            self._put(record, failed)
            return
        self._held[place] = record, failed
        while self._next in self._held:
            self._put(*self._held.pop(self._next))
            self._next += 1

    def _put(self, record: Mapping[str, Any], failed: bool) -> None:
        self._output.write(record)
        self._figures.done += 1
        self._figures.failed += failed
