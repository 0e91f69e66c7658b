"""What can be asked of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.stops import StopMatcher
from pipelines.common.errors import UsageError


@dataclass(frozen=True, eq=False)
class Request:
    """A prompt to continue, as the engine takes it: no text, no file, no option.

    Each is another one, also where two ask for the same: it can be the key of whatever is to be
    remembered of it.

    Attributes:
        prompt: Token ids, at least one.
        max_length: Tokens that prompt and output together can reach; above the prompt's.
        sampling: How tokens are chosen.
        stops: Strings that end the text and do not belong to it.
        logprobs: How many of the likeliest tokens are told wherever one is chosen, beside how
            likely that one was; None for no log-probabilities.

    Raises:
        UsageError: The prompt is empty or leaves no room for output, a stop string is empty, or
            `logprobs` is negative.
    """

    prompt: Sequence[int]
    max_length: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stops: Sequence[str] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.prompt) < self.max_length:
            raise UsageError(
                f"a prompt of {len(self.prompt)} tokens may grow to {self.max_length}; expected at"
                " least one token, and room for output"
            )
        if self.logprobs is not None and self.logprobs < 0:
            raise UsageError(f"`logprobs` is {self.logprobs}; expected 0 or more")
        StopMatcher(self.stops)
