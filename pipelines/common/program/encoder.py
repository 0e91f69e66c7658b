"""Vectors of the tokens of texts, by a network that takes whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import UsageError
from pipelines.common.nn.interface import Interface
from pipelines.common.program.function import Function

BATCH_TOKENS: Final = 4096
"""Most tokens that are computed together: bounds the activations' memory."""

_FED: Final = ("tokens", "positions", "token_types")
_VECTORS: Final = "vectors"


class TextEncoder:
    """A compiled encoder with its weights.

    Texts of one length are computed together, so that none of what is computed is padding, and a
    text's vectors do not depend on how long others are.

    Args:
        function: The network, which gives ``vectors`` ``[batch, sequence, hidden_size]``.
        interface: What it takes: ``tokens``, and maybe their ``positions`` and ``token_types``,
            which are 0.
        context_length: Tokens of the longest text.

    Raises:
        PluginError: The network takes something else, or gives no vectors.
    """

    def __init__(self, function: Function, interface: Interface, context_length: int) -> None:
        interface.check_call(_FED, _VECTORS)
        self._function = function
        self._takes = interface.takes.keys()
        self._vocabulary = interface.vocabulary
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

    def _compute(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors ``[texts, tokens, hidden_size]`` of texts of one length."""
        fed = {
            "tokens": tokens,
            "positions": np.arange(tokens.shape[1])[None],
            "token_types": np.zeros_like(tokens),
        }
        return self._function({name: fed[name] for name in self._takes})[_VECTORS]

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
