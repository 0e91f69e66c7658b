"""One sequence on its way from prompt to finished text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.common.engine.logprobs import TokenLogprobs, token_logprobs
from pipelines.common.engine.request import Request
from pipelines.common.engine.sampling.chain import Chain
from pipelines.common.engine.stops import StopMatcher
from pipelines.common.errors import PipelineError
from pipelines.common.text.detokenizer import Detokenizer
from pipelines.common.text.tokenizer import Tokenizer

FinishReason: TypeAlias = Literal["stop", "length", "interrupted", "error"]
"""``stop``: an end token or a stop string; ``length``: a limit; ``interrupted``: from outside;
``error``: no token could be chosen."""


@dataclass
class Timings:
    """Seconds that were spent on a sequence's tokens; printing them is not counted.

    Attributes:
        prefill_s: Computing the prompt.
        first_token_s: From the prompt's start to the first token chosen; None until then.
        decode_s: Computing and choosing all further tokens. Of sequences that are computed
            together each counts the whole time.
        decode_steps: Number of those, an end token included.
    """

    prefill_s: float = 0.0
    first_token_s: float | None = None
    decode_s: float = 0.0
    decode_steps: int = 0


class TextSequence:
    """The state of one request: its tokens, its random numbers and what of it was shown.

    It knows nothing of runners and slots: `sample` a token from the logits, `accept` it, until
    there is a `finish_reason`.

    Attributes:
        request: What was asked for.
        tokens: Token ids of the output, without the end token.
        logprobs: How likely the model found each of them; empty if nobody asked.
        finish_reason: Why the sequence ended; None while it goes on.
        error: What ended it, where the reason is ``error``.
        timings: Filled in by whoever drives it.
        shared_tokens: How many tokens of the prompt were copied from another sequence; filled in by
            whoever drives it.

    Args:
        request: What is asked for.
        tokenizer: Turns tokens to text and knows which of them end it.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.finish_reason: FinishReason | None = None
        self.error: PipelineError | None = None
        self.timings = Timings()
        self.shared_tokens = 0
        self._end_ids = tokenizer.end_ids
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopMatcher(request.stops)
        self._chain = Chain(request.sampling, tokenizer)
        self._chain.observe(request.prompt)

    @property
    def prompt(self) -> Sequence[int]:
        """Token ids of the prompt."""
        return self.request.prompt

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Chooses the next token from logits of shape ``[vocab]``."""
        token = self._chain.sample(logits)
        if self.request.logprobs is not None and token not in self._end_ids:
            self.logprobs.append(token_logprobs(logits, token, self.request.logprobs))
        return token

    def takes(self, candidates: int) -> bool:
        """Whether so many of the most likely tokens are enough, see `Chain.takes`.

        For probabilities they are not: those are parts of the sum over all tokens.
        """
        return self.request.logprobs is None and self._chain.takes(candidates)

    def decided_by(self, logits: NDArray[np.float32]) -> bool:
        """Whether candidates with these logits are all that matter, see `Chain.decided_by`."""
        return self._chain.decided_by(logits)

    def sample_candidates(self, tokens: NDArray[np.int64], logits: NDArray[np.float32]) -> int:
        """Chooses the next token from candidates, see `Chain.sample_candidates`."""
        return self._chain.sample_candidates(tokens, logits)

    def accept(self, token: int) -> str:
        """Appends `token` and returns the text that can be printed now."""
        if token in self._end_ids:
            return self.finish("stop")
        self.tokens.append(token)
        self._chain.observe((token,))
        text = self._stops.push(self._detokenizer.push(token))
        if self._stops.matched is not None:
            self.finish_reason = "stop"
        elif len(self.prompt) + len(self.tokens) >= self.request.max_length:
            text += self.finish("length")
        return text

    def finish(self, reason: FinishReason) -> str:
        """Ends the sequence and returns the text that was held back."""
        text = self._stops.push(self._detokenizer.flush()) + self._stops.flush()
        self.finish_reason = "stop" if self._stops.matched is not None else reason
        return text

    def fail(self, error: PipelineError) -> None:
        """Ends the sequence because no token can be chosen."""
        self.error = error
        self.finish_reason = "error"
