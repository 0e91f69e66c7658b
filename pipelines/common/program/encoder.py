"""What a target hands to whoever has texts encoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import UsageError
from pipelines.common.program.target import Deployment

BATCH_TOKENS = 4096
"""Most tokens that are computed together: bounds the activations' memory."""


class TextEncoder(ABC):
    """A compiled encoder with its weights.

    Texts of one length are computed together, so that none of what is computed is padding, and a
    text's vectors do not depend on how long others are.

    Args:
        vocabulary: Number of token ids.
        context_length: Tokens of the longest text.
    """

    def __init__(self, vocabulary: int, context_length: int) -> None:
        self._vocabulary = vocabulary
        self.context_length = context_length

    def encode(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """The vectors of the tokens of texts.

        Args:
            texts: Token ids, at least one a text and no more than `context_length`.

        Raises:
            UsageError: A text has too many tokens, or none, or one that is none.

        Returns:
            ``[tokens, hidden_size]`` of each text.
        """
        by_length: dict[int, list[int]] = {}
        for place, tokens in enumerate(texts):
            self._check(tokens)
            by_length.setdefault(len(tokens), []).append(place)
        vectors: dict[int, NDArray[np.float32]] = {}
        for length, places in by_length.items():
            together = max(1, BATCH_TOKENS // length)
            for first in range(0, len(places), together):
                some = places[first : first + together]
                made = self._compute(np.array([texts[place] for place in some], np.int64))
                vectors |= zip(some, made, strict=True)
        return [vectors[place] for place in range(len(texts))]

    @abstractmethod
    def _compute(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors ``[texts, tokens, hidden_size]`` of texts of one length."""

    def _check(self, tokens: Sequence[int]) -> None:
        if not 1 <= len(tokens) <= self.context_length:
            raise UsageError(
                f"a text has {len(tokens)} tokens; expected 1 to {self.context_length}"
            )
        if min(tokens) < 0 or max(tokens) >= self._vocabulary:
            raise UsageError(
                f"tokens go from {min(tokens)} to {max(tokens)}; the vocabulary has"
                f" {self._vocabulary}, from 0"
            )


@runtime_checkable
class EncoderTarget(Protocol):
    """A target that encoders run on, too."""

    def start_encoder(self, deployment: Deployment) -> TextEncoder:
        """Builds, lowers, compiles and loads; errors are those of `Target.start`.

        Args:
            deployment: The network; its `max_length` is the length of the longest text.
        """
