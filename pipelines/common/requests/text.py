"""A text to continue, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipelines.common.chat.messages import Messages
from pipelines.common.engine.request import Request
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.sampling.chain import Chain
from pipelines.common.engine.sampling.order import Find, shipped
from pipelines.common.engine.sequence import FinishReason, TextSequence, Timings
from pipelines.common.errors import TooLongError
from pipelines.common.requests.logprobs import Position, positions
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Defaults:
    """What holds for requests that say nothing else.

    Attributes:
        sampling: How tokens are chosen; the seed is that of the first request, the next has the
            next one, so that those with one prompt differ.
        max_new_tokens: Most tokens of output.
        stops: Strings that end the text.
        find_sampler: What the names of samplers stand for that a request asks for.
        logprobs: See `Request.logprobs`.
    """

    sampling: SamplingParams
    max_new_tokens: int
    stops: tuple[str, ...] = ()
    find_sampler: Find = field(default=shipped, compare=False)
    logprobs: int | None = None

    def request(self, prompt: str | Messages, index: int = 0) -> TextRequest:
        """The request that says nothing but its prompt, after `index` others."""
        sampling = replace(self.sampling, seed=self.sampling.seed + index)
        return TextRequest(prompt, sampling, self.max_new_tokens, self.stops, self.logprobs)


@dataclass(frozen=True)
class TextRequest:
    """A prompt that can be run, as far as one can tell without a tokenizer.

    Attributes:
        prompt: Text to continue, or a conversation to reply in.
        sampling: How tokens are chosen.
        max_new_tokens: Most tokens of output.
        stops: Strings that end the text.
        logprobs: See `Request.logprobs`.
        samples: How many outputs are wanted; the seed of each is one more than of that before it.
    """

    prompt: str | Messages
    sampling: SamplingParams
    max_new_tokens: int
    stops: tuple[str, ...] = ()
    logprobs: int | None = None
    samples: int = 1

    def encoded(self, reader: PromptReader, max_length: int) -> Request:
        """The first sample as the engine takes it; far too long prompts are refused unencoded.

        Args:
            reader: Makes tokens of the prompt.
            max_length: Most tokens of prompt and output.

        Raises:
            PromptError: See `PromptReader.tokens`.
            TooLongError: The prompt leaves no room for output.
            UsageError: A stop string is empty, or a setting of sampling does not fit.
            PluginError: A plugin's sampler cannot be made.
        """
        if (least := reader.least_tokens(self.prompt)) >= max_length:
            raise _too_long(f"at least {least}", max_length)
        tokens = reader.tokens(self.prompt)
        if len(tokens) >= max_length:
            raise _too_long(f"{len(tokens)}", max_length)
        limit = min(max_length, len(tokens) + self.max_new_tokens)
        Chain(self.sampling, reader.tokenizer)  # to see whether it can be
        return Request(tokens, limit, self.sampling, self.stops, self.logprobs)

    def sampled(self, first: Request) -> Iterator[Request]:
        """All samples, the first of which is `encoded`; with its prompt, which is computed once."""
        yield first
        for index in range(1, self.samples):
            yield replace(first, sampling=replace(self.sampling, seed=self.seed_of(index)))

    def seed_of(self, index: int) -> int:
        """The seed of a sample; after the largest comes 0."""
        return (self.sampling.seed + index) % (1 << 63)


@dataclass(frozen=True)
class Result:
    """What came of a request.

    Attributes:
        text: The output.
        tokens: Token ids of the output, without the end token.
        finish_reason: ``stop``, an end token or a stop string; ``length``, a limit; or
            ``interrupted``, before it was at its end.
        prompt_tokens: Size of the prompt.
        shared_tokens: How many of those were not computed, but there already.
        timings: Seconds spent on it.
        logprobs: How likely each token of the output was; None if that was not asked for.
        others: The further samples, where there are any.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    shared_tokens: int
    timings: Timings
    logprobs: tuple[Position, ...] | None = None
    others: tuple[Result, ...] = ()

    @property
    def samples(self) -> tuple[Result, ...]:
        """All of them, this one the first."""
        return self, *self.others

    @property
    def generated_tokens(self) -> int:
        """Size of the output, without the end token."""
        return len(self.tokens)

    @classmethod
    def of(cls, sequence: TextSequence, text: str, tokenizer: Tokenizer) -> Result:
        """What came of a sequence that has ended.

        Args:
            sequence: The sequence.
            text: All that was written of it.
            tokenizer: The model's.
        """
        assert sequence.finish_reason is not None
        return cls(
            text=text,
            tokens=tuple(sequence.tokens),
            finish_reason=sequence.finish_reason,
            prompt_tokens=len(sequence.prompt),
            shared_tokens=sequence.shared_tokens,
            timings=sequence.timings,
            logprobs=positions(sequence, tokenizer),
        )

    @classmethod
    def of_samples(cls, results: Iterable[Result]) -> Result:
        """What came of a request, given what came of each of its samples, in their order."""
        first, *others = results
        return replace(first, others=tuple(others))


def timings_record(timings: Timings) -> dict[str, float | None]:
    """Seconds to the microsecond, and tokens a second where any were decoded."""
    decoded = timings.decode_steps > 0 and timings.decode_s > 0
    figures = {
        "prefill_s": timings.prefill_s,
        "first_token_s": timings.first_token_s,
        "decode_s": timings.decode_s,
        "generated_tokens_per_s": timings.decode_steps / timings.decode_s if decoded else None,
    }
    return {name: value if value is None else round(value, 6) for name, value in figures.items()}


def _too_long(tokens: str, max_length: int) -> TooLongError:
    return TooLongError(
        f"the prompt has {tokens} tokens, but prompt and output together are limited to "
        f"{max_length}; shorten the prompt or raise `max_length` up to the model's context"
    )
