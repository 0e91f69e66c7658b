"""One prompt of a batch, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.sequence import FinishReason, Timings

RowId: TypeAlias = str | int | None


@dataclass(frozen=True)
class Defaults:
    """What holds for rows that say nothing else.

    Attributes:
        sampling: How tokens are chosen; the seed is that of the first row, the next row has the
            next one, so that rows with one prompt differ.
        max_new_tokens: Most tokens of output.
        stops: Strings that end the text.
    """

    sampling: SamplingParams
    max_new_tokens: int
    stops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A prompt that can be run, as far as one can tell without a tokenizer.

    Attributes:
        line: Its line in the input, from 1.
        id: What the input calls it; None if it has no name.
        prompt: Text to continue.
        sampling: How tokens are chosen.
        max_new_tokens: Most tokens of output.
        stops: Strings that end the text.
        extra: Fields that have no effect and go into the record as they are.
        unknown: Names of fields that nobody knows here.
    """

    line: int
    id: RowId
    prompt: str
    sampling: SamplingParams
    max_new_tokens: int
    stops: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def failed(self, error: str) -> BadRow:
        """The same row, which cannot be run after all."""
        return BadRow(self.line, self.id, error, self.extra, self.unknown)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be run.

    Attributes:
        line: Its line in the input, from 1.
        id: What the input calls it, if that much can be read.
        error: What is wrong, in one line that does not name the line's number.
        extra: See `Row.extra`.
        unknown: See `Row.unknown`.
    """

    line: int
    id: RowId
    error: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of a row.

    Attributes:
        text: The output.
        finish_reason: ``stop`` or ``length``.
        prompt_tokens: Size of the prompt.
        shared_tokens: How many of those were not computed, but copied from another sequence.
        generated_tokens: Size of the output, without the end token.
        timings: Seconds spent on it.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    shared_tokens: int
    generated_tokens: int
    timings: Timings
