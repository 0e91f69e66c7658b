"""DRY, "don't repeat yourself": a penalty for going on with a sequence that has occurred.

As its author describes it: https://github.com/oobabooga/text-generation-webui/pull/5677.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.engine.sampling.sampler import LARGEST, Candidates, Sampler, Setup
from pipelines.common.errors import UsageError

if TYPE_CHECKING:
    from pipelines.common.text.tokenizer import Tokenizer

BREAKERS: Final = ("\n", ":", '"', "*")
"""Where repeated sequences end unless users say otherwise, as its author has them."""


class DRY(Sampler):
    """Lowers the logits of tokens that would make a repeated sequence longer.

    If the last n tokens stand somewhere before as well, with a token after them, that one's logit
    loses ``multiplier * base ** (n - allowed)``, where n is at least the length that is allowed.

    Args:
        multiplier: Above 0.
        base: At least 1.
        allowed: How long a repeated sequence is left alone; at least 1.
        last: How many of the last tokens count; -1 for all.
        breakers: Tokens that no repeated sequence goes beyond, and that are not penalized.
    """

    def __init__(
        self, multiplier: float, base: float, allowed: int, last: int, breakers: Collection[int]
    ) -> None:
        self._allowed = allowed
        self._last = last
        self._breakers = breakers
        self._penalties = _powers(multiplier, base)

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        lengths = self._lengths(history if self._last < 0 else history[-self._last :])
        if not lengths:
            return candidates
        excess = np.array([*lengths.values()]) - self._allowed
        penalties = self._penalties[np.minimum(excess, self._penalties.size - 1)]

        def penalized(logits: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[Any]:
            return logits - penalties[places]

        return candidates.plus(np.array([*lengths], np.intp), penalized)

    def _lengths(self, history: Sequence[int]) -> dict[int, int]:
        """For each token that would go on with one, the length of the longest repeated sequence."""
        breaks = (n for n, token in enumerate(reversed(history)) if token in self._breakers)
        longest = next(breaks, len(history))
        # A longer one has the same penalty, once that is as large as it can be.
        longest = min(longest, self._allowed + self._penalties.size)
        if longest < self._allowed:
            return {}
        tokens = np.array(history)
        ends = np.flatnonzero(tokens[:-1] == tokens[-1])
        found: dict[int, int] = {}
        for length in range(1, longest + 1):
            if not ends.size:
                break
            if length >= self._allowed:
                found |= dict.fromkeys(tokens[ends + 1].tolist(), length)
            ends = ends[ends >= length]
            ends = ends[tokens[ends - length] == tokens[-1 - length]]
        return {token: length for token, length in found.items() if token not in self._breakers}


def dry(setup: Setup) -> Sampler | None:
    """Off for a multiplier of 0, and for a window of 0 tokens."""
    params = setup.params
    if params.dry_multiplier == 0 or params.dry_penalty_last_n == 0:
        return None
    return DRY(
        params.dry_multiplier,
        params.dry_base,
        params.dry_allowed_length,
        params.dry_penalty_last_n,
        _tokens_with(setup.tokenizer, params.dry_sequence_breakers),
    )


def _powers(multiplier: float, base: float) -> NDArray[np.float64]:
    """``multiplier * base ** n`` from n = 0 on, up to the last that is another and a float32.

    By products, which are the same on every machine.
    """
    powers = [min(multiplier, LARGEST)]
    while base > 1 and powers[-1] * base < LARGEST and len(powers) < 1 << 12:
        powers.append(powers[-1] * base)
    return np.array(powers)


@functools.lru_cache(maxsize=16)
def _tokens_with(tokenizer: Tokenizer, texts: tuple[str, ...]) -> frozenset[int]:
    """The tokens whose text has one of `texts` in it.

    Raises:
        UsageError: No token has one of them.
    """
    if not texts:
        return frozenset()
    tokens = [tokenizer.token_bytes(id, special=True) for id in range(tokenizer.vocab_size)]
    found: set[int] = set()
    for text in texts:
        ids = {id for id, token in enumerate(tokens) if text.encode() in token}
        if not ids and text not in BREAKERS:  # which not every model need have
            raise UsageError(
                f"`dry_sequence_breakers` has {text!r}, which no token of the model has in it;"
                " expected a shorter text, as a character"
            )
        found |= ids
    return frozenset(found)
